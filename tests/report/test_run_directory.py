import io
import json
import re
import shutil

import pytest
from rich.console import Console

from disentangle_lightning.errors import UserError
from disentangle_lightning.report import print_report, read_run, write_report


def test_reads_figures_with_spread_and_interval(write):
    run = read_run(write())
    wer = run.measurements["stage1.wer"]
    assert wer.value == pytest.approx(0.104)
    assert wer.std == pytest.approx(0.004 / 2**0.5)
    assert (wer.ci_low, wer.ci_high) == pytest.approx((0.084, 0.124))
    assert "stage1.wer.std" not in run.measurements


def test_knows_tasks_representations_and_targets(read):
    run = read()
    assert run.tasks == ["speaker", "style"]
    assert run.representations == ["hidden", "textual", "acoustic_speaker", "acoustic_style"]
    assert run.targets == ["speaker", "style"]
    assert run.chance("style") == 0.25
    assert run.missing == []


def test_intervals_inside_the_seeds_are_no_figures_of_their_own(write):
    path = write()
    for file in path.glob("seed*/probe_hidden/summary.json"):
        figures = json.loads(file.read_text()) | {"probe.hidden.speaker.accuracy.ci_low": 0.8}
        file.write_text(json.dumps(figures))
    assert read_run(path).targets == ["speaker", "style"]
    (path / "summary.json").unlink()
    assert read_run(path).measurements["probe.hidden.speaker.accuracy"].ci_low == 0.8


def test_curves_skip_the_cells_that_a_row_did_not_log(read):
    curves = read(seeds=1).seeds[0].steps["stage1"].curves
    assert len(curves["train/loss"]) == 60
    assert [step for step, _ in curves["dev/wer"]] == [90, 190, 290, 390, 490, 590]
    assert "epoch" not in curves


def test_seeds_are_averaged_where_the_run_has_not_finished(write):
    path = write(change_seed={0: {"stage1.wer": 0.1}, 1: {"stage1.wer": 0.3}})
    (path / "summary.json").unlink()
    run = read_run(path)
    assert run.value("stage1.wer") == pytest.approx(0.2)
    assert run.measurements["stage1.wer"].std == pytest.approx(0.1 * 2**0.5)
    assert "summary.json is missing" in run.missing


def test_a_run_with_only_stage_1_reports_and_says_what_is_missing(write):
    path = write(only=("stage1",), seeds=1)
    page = write_report(path).read_text()
    assert "seed0/probe_textual has not finished" in page
    assert "no Stage 2 has finished" in page
    assert "This run has not finished" in page


def test_a_seed_that_lags_behind_is_named(write):
    path = write()
    (path / "seed1" / "stage2_style" / "summary.json").unlink()
    assert read_run(path).missing == ["seed1/stage2_style has not finished"]


def test_files_that_a_finished_step_lost_are_named(write):
    path = write(seeds=1)
    for name in ("stage1/metrics.csv", "stage1/layer_weights.json", "latent_map.json"):
        (path / "seed0" / name).unlink()
    (path / "corpus.json").unlink()
    missing = " ".join(read_run(path).missing)
    for name in ("stage1/metrics.csv", "stage1/layer_weights.json", "latent_map.json", "corpus.json"):
        assert name in missing
    write_report(path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: shutil.rmtree(path), "does not exist; `pipeline` makes one"),
        (lambda path: shutil.rmtree(path / "seed0"), "has no seed0 folder"),
        (lambda path: shutil.rmtree(path / "seed0" / "stage1"), "stage1/summary.json does not exist"),
    ],
)
def test_nothing_to_report_is_one_sentence_that_names_the_step_to_run(write, damage, sentence):
    path = write(only=("stage1",), seeds=1)
    damage(path)
    with pytest.raises(UserError, match=re.escape(sentence)) as error:
        read_run(path)
    assert "pipeline" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "summary.json",
        "corpus.json",
        "provenance.json",
        "seed0/latent_map.json",
        "seed0/stage1/summary.json",
        "seed0/stage1/transcripts.json",
        "seed0/stage1/layer_weights.json",
        "seed0/probe_hidden/layer_weights.json",
        "seed0/stage1/metrics.csv",
    ],
)
@pytest.mark.parametrize("content", ["[{", '["a"]', "3", 'step,x\n1,"a'], ids=["cut", "list", "number", "csv"])
def test_a_damaged_file_is_named_in_one_sentence(write, name, content):
    path = write(seeds=1)
    (path / name).write_text(content if not name.endswith("csv") else "step,train/loss\n1,abc\n")
    with pytest.raises(UserError, match=re.escape(name)) as error:
        read_run(path)
    assert "run the same command again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_latent_map_whose_lists_differ_in_length_is_refused(write):
    path = write(seeds=1)
    file = path / "seed0" / "latent_map.json"
    data = json.loads(file.read_text())
    data["ids"].pop()
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"latent_map\.json is damaged"):
        read_run(path)


def test_a_summary_cut_by_a_kill_leaves_no_page_behind(write):
    path = write()
    (path / "summary.json").write_text('{"stage1.wer": 0.1')
    with pytest.raises(UserError):
        write_report(path)
    assert not (path / "report.html").exists()


def test_print_report_reads_labels_as_text_not_as_markup(write):
    labels = {"[/bold]style": ["a", "b"], "speaker": ["x", "y"]}
    path = write(labels=labels, only=("stage1",), seeds=1)
    summary = path / "seed0" / "stage1" / "summary.json"
    values = json.loads(summary.read_text())
    values |= {"probe.textual.[/bold]style.accuracy": 0.5, "probe.textual.[/bold]style.leakage": 0.4}
    summary.write_text(json.dumps(values))
    text = io.StringIO()
    print_report(path, Console(file=text, width=120))
    assert "[/bold]style" in text.getvalue()
