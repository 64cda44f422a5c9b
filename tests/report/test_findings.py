import json
import math
from dataclasses import replace

import pytest

from disentangle_lightning.report import read_run
from disentangle_lightning.report.findings import Severity, find
from disentangle_lightning.report.tables import cross_probe_table
from disentangle_lightning.report.verdict import verdict


def titles(run):
    return [f.title for f in find(run)]


def finding(run, start):
    found = [f for f in find(run) if f.title.startswith(start)]
    assert len(found) == 1, titles(run)
    return found[0]


def test_a_live_run_has_no_finding(read):
    run = read()
    assert find(run) == []
    assert verdict(run, []).startswith("What was said and how it was said were separated.")


def test_a_collapsed_stage_2_is_an_alarm_with_its_figures_and_advice(read):
    run = read(
        change={
            "stage2_style.rate_bits_per_second": 0.28,
            "stage2_style.accuracy": 0.25,
            "probe.acoustic_style.style.accuracy": 0.25,
        }
    )
    found = finding(run, "Stage 2 (style) has collapsed")
    assert found.severity is Severity.ALARM
    assert "0.28 bits per second" in found.evidence
    assert "25.0%" in found.evidence
    assert "beta" in found.advice
    assert len(find(run)) == 1  # said once, not again as a lost task
    assert verdict(run, find(run)).startswith("This run did not work: one problem")


def test_one_collapsed_seed_is_not_hidden_by_the_mean(read):
    run = read(change_seed={1: {"stage2_style.rate_bits_per_second": 0.2, "stage2_style.accuracy": 0.25}})
    assert run.value("stage2_style.rate_bits_per_second") > 10
    found = finding(run, "Stage 2 (style) has collapsed in seed1")
    assert "0.20 bits per second" in found.evidence


def test_a_stage_2_that_reads_its_condition_only_is_an_alarm(read):
    run = read(change={"stage2_style.rate_bits_per_second": 0.2, "stage2_style.accuracy": 0.8})
    found = finding(run, "Stage 2 (style) lives on z_textual alone")
    assert found.severity is Severity.ALARM


def test_a_low_rate_that_still_does_its_task_is_no_collapse(read):
    assert find(read(change={"stage2_style.rate_bits_per_second": 1.5})) == []


def test_a_collapsed_stage_1_is_called_so(read):
    run = read(change={"stage1.rate_bits_per_second": 0.3, "stage1.wer": 1.0})
    assert finding(run, "Stage 1 has collapsed").severity is Severity.ALARM
    assert "Stage 1 cannot transcribe" not in titles(run)


@pytest.mark.parametrize(("wer", "fires"), [(0.50, False), (0.51, True)])
def test_stage_1_cannot_transcribe_above_half_of_the_words(read, wer, fires):
    assert ("Stage 1 cannot transcribe" in titles(read(change={"stage1.wer": wer}))) is fires


def test_advice_for_stage_1_depends_on_what_the_encoder_can_do(read):
    tight = finding(read(name="tight", change={"stage1.wer": 0.7}), "Stage 1 cannot")
    poor = finding(read(name="poor", change={"stage1.wer": 0.7, "probe.hidden.ctc.wer": 0.8}), "Stage 1 cannot")
    assert "too tight" in tight.advice
    assert "encoder" in poor.advice


@pytest.mark.parametrize(
    ("accuracy", "severity"), [(0.24, Severity.WARNING), (0.70, Severity.ALARM)], ids=["some", "most"]
)
def test_leakage_of_z_textual_is_reported_by_label(read, accuracy, severity):
    run = read(change={"probe.textual.speaker.accuracy": accuracy})
    found = finding(run, "z_textual still tells the speaker")
    assert found.severity is severity
    assert f"{100 * accuracy:.1f}%" in found.evidence
    assert "16.7%" in found.evidence
    assert "give" in verdict(run, [found])


def test_what_stage_1_was_told_to_hide_is_said_and_advised_on(read):
    run = read(change={"probe.textual.speaker.accuracy": 0.6, "probe.textual.style.accuracy": 0.8})
    assert run.hidden == []
    assert "trained to hide" not in cross_probe_table(run).explanation
    assert "Name speaker among what Stage 1 hides" in finding(run, "z_textual still tells the speaker").advice
    run = replace(run, config="stage1: {checkpoint: null, set: {model: {init_args: {hide: [speaker]}}}}")
    assert "Stage 1 was trained to hide: speaker; anything else" in cross_probe_table(run).explanation
    assert "Raise hide_weight" in finding(run, "z_textual still tells the speaker").advice
    assert "Name style among what Stage 1 hides" in finding(run, "z_textual still tells the style").advice
    elsewhere = "stage1: {checkpoint: c.ckpt, set: {model: {init_args: {hide: [speaker]}}}}"
    assert replace(run, config=elsewhere).hidden == [], "it was trained elsewhere"


def test_leakage_that_timing_explains_says_so(read):
    run = read(change={"probe.textual.style.accuracy": 0.46, "probe.duration.style.accuracy": 0.45})
    found = finding(run, "z_textual still tells the style")
    assert "timing explains it" in found.evidence


def test_a_wide_interval_is_a_note(read):
    run = read(change={"probe.textual.speaker.accuracy": 0.23})  # leakage 0.076, up to 0.096
    assert finding(run, "Too few test utterances").severity is Severity.NOTE


@pytest.mark.parametrize(("wer", "severity"), [(0.89, Severity.WARNING), (0.3, Severity.ALARM)])
def test_words_left_in_z_acoustic(read, wer, severity):
    run = read(change={"probe.acoustic_speaker.ctc.wer": wer})
    assert finding(run, "Words are left in z_acoustic (speaker)").severity is severity


@pytest.mark.parametrize(("accuracy", "severity"), [(0.80, Severity.WARNING), (0.17, Severity.ALARM)])
def test_z_acoustic_that_lost_its_task(read, accuracy, severity):
    run = read(change={"probe.acoustic_speaker.speaker.accuracy": accuracy})
    assert finding(run, "z_acoustic has lost").severity is severity


def test_hiding_what_the_encoder_never_showed_proves_nothing(read):
    run = read(change={"probe.hidden.style.accuracy": 0.26})
    assert finding(run, "Nothing to separate: the encoder does not show style")


def test_collapse_while_beta_rises_is_told_from_the_curves(read):
    run = read(kl=lambda progress: 2.0 if progress < 0.3 else 0.002)
    found = finding(run, "Stage 1 collapsed before beta had risen")
    assert "training step 180" in found.evidence
    assert "0.41" in found.evidence


def test_a_kl_that_recovers_or_dies_after_the_ramp_is_not_a_warm_up_collapse(read):
    assert find(read(name="back", kl=lambda progress: 0.001 if 0.2 < progress < 0.5 else 2.0)) == []
    assert find(read(name="late", kl=lambda progress: 2.0 if progress < 0.95 else 0.001)) == []


def test_the_control_without_bottleneck_is_no_collapse(read):
    off = {f"{s}.rate_bits_per_second": 0.0 for s in ("stage1", "stage2_speaker", "stage2_style")}
    run = read(change=off, kl=lambda progress: 0.0)
    assert titles(run) == ["Control run without a bottleneck"]
    assert "control run" in verdict(run, find(run))


def test_skips_and_unknown_characters_are_counted(write):
    path = write(skipped=[{"id": "a", "reason": "is silent"}, {"id": "b", "reason": "is empty"}])
    file = path / "corpus.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"unknown_characters": {"é": 3, "7": 12}}))
    run = read_run(path)
    assert finding(run, "2 utterances were left out").severity is Severity.NOTE
    assert finding(run, "Some characters").evidence == "'7' (12) and 'é' (3) were dropped."


def test_many_skips_are_a_warning(read):
    run = read(skipped=[{"id": str(i), "reason": "is silent"} for i in range(200)])
    assert finding(run, "200 utterances").severity is Severity.WARNING


def test_what_is_left_out_to_keep_splits_apart_is_no_fault_of_the_corpus(read):
    mixing = [{"id": str(i), "reason": "shares its speaker and sentence with test and train"} for i in range(600)]
    run = read(skipped=[*mixing, {"id": "x", "reason": "is silent"}])
    assert finding(run, "1 utterance was left out").severity is Severity.NOTE
    assert not [f for f in find(read(skipped=mixing)) if "left out" in f.title]


def test_clips_too_short_for_ctc_are_counted(read):
    assert "7 clips" in finding(read(change={"stage1.infeasible": 7.0}), "Some clips are too short").evidence


def test_a_figure_that_is_not_a_number_is_an_alarm(read):
    found = finding(read(change={"stage1.cer": math.nan}), "Some figures are not numbers")
    assert found.severity is Severity.ALARM
    assert "stage1.cer" in found.evidence


def test_the_gravest_finding_comes_first(read):
    run = read(change={"stage1.infeasible": 7.0, "stage1.wer": 0.7, "probe.acoustic_speaker.ctc.wer": 0.8})
    severities = [f.severity for f in find(run)]
    assert severities == sorted(severities)
    assert len(set(severities)) == 3


def taken(run_dir, known):
    step = run_dir / "seed0" / "stage1"
    (step / "metrics.csv").unlink()
    (step / "taken_from.json").write_text(json.dumps({"checkpoint": "runs/read/best.ckpt", "trained_on_known": known}))
    summary = json.loads((run_dir / "summary.json").read_text())
    figures = {"stage1.training_corpus.wer": 0.07, "stage1.training_corpus.rate_bits_per_second": 55.0}
    (run_dir / "summary.json").write_text(json.dumps(summary | figures))
    return read_run(run_dir)


def test_a_stage_1_from_elsewhere_is_a_note_with_the_figures_of_both_corpora(write):
    run = taken(write(), known=True)
    found = finding(run, "Stage 1 was trained elsewhere")
    assert found.severity is Severity.NOTE
    assert "runs/read/best.ckpt" in found.evidence
    assert f"7.0% of the words wrong there, {100 * run.value('stage1.wer'):.1f}% here" in found.evidence
    assert "55.00 bits/s there" in found.evidence
    assert len(find(run)) == 1, "that it has no curves is no step that is missing"


def test_a_stage_1_that_may_have_heard_the_test_speech_is_a_warning(write):
    found = finding(taken(write(), known=False), "Stage 1 was trained elsewhere")
    assert found.severity is Severity.WARNING
    assert "may have heard the test speech" in found.evidence


def test_a_run_of_stage_1_alone_lacks_nothing(write):
    run_dir = write(only=("stage1", "probe_hidden", "probe_textual"))
    assert "no Stage 2 has finished" in " ".join(read_run(run_dir).missing)
    (run_dir / "config.yaml").write_text("run_dir: r\ntasks: []\nlabels: [style]\n")
    run = read_run(run_dir)
    assert not [m for m in run.missing if "Stage 2" in m or "map" in m]
    assert verdict(run, []).startswith("This run made z_textual alone")
