import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from disentangle_lightning.errors import UserError
from disentangle_lightning.report import page, read_run, write_report
from disentangle_lightning.report.figures import curves
from disentangle_lightning.report.run_directory import Transcript
from disentangle_lightning.report.transcripts import mark, spread

ATTACK = "</svg></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}$\\frac$"


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.stack = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text.append(data)

    @property
    def names(self):
        return {tag for tag, _ in self.tags}

    @property
    def words(self):
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def live_report(tmp_path_factory, write_once):
    """One page for the tests that only read it."""
    return write_report(write_once(tmp_path_factory.mktemp("live") / "demo"))


@pytest.fixture(scope="module")
def live(live_report):
    return Elements(live_report.read_text())


def test_every_section_stands_in_order(live):
    sections = [attributes["id"] for tag, attributes in live.tags if tag == "section"]
    assert sections == [
        "findings",
        "key-figures",
        "cross-probe",
        "transcription",
        "rate",
        "layers",
        "curves",
        "maps",
        "transcripts",
        "corpus",
        "commands",
        "config",
        "versions",
        "all-figures",
    ]
    links = [a["href"] for tag, a in live.tags if tag == "a"]
    assert links == [f"#{section}" for section in sections]


@pytest.mark.parametrize(
    "text",
    [
        "10.4% ± 0.3",  # Stage 1's WER over two seeds
        "[8.4, 12.4]",  # and its interval
        "19.0% ± 0.3",  # speaker from z_textual
        "leakage 0.03 ± 0.00 [0.01, 0.05]",
        "98.7% ± 0.3",  # WER of z_acoustic (speaker)
        "148.2 ± 0.0",  # bits per second
        "41.0 ± 0.0",  # active dimensions
        "python -m disentangle_lightning pipeline --config experiments/demo.yaml",
        "beta: 0.1",  # config
        "Of test, 6 of the 6 speakers are in train and 0 in probe as well; "
        "0 of the 40 sentences are in train or probe as well.",
        "2.14.1",  # torch
        "probe.acoustic_speaker.ctc.wer",  # the list of all figures
    ],
)
def test_figures_commands_and_versions_are_in_the_page(live, text):
    assert text in live.words


def test_the_page_loads_nothing_and_runs_nothing(live):
    for tag, attributes in live.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
                assert re.match(r"#|data:image/png;base64,", value), (tag, name, value[:60])


def test_every_drawing_has_words_in_its_place_and_ids_are_unique(live):
    drawings = [a for tag, a in live.tags if tag == "svg"]
    assert len(drawings) == 1 + 1 + 3 + 2  # leakage, layers, curves of three stages, maps by two labels
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in drawings)
    ids = [a["id"] for _, a in live.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_table_heads_have_a_scope(live):
    assert all(a.get("scope") in {"col", "row"} for tag, a in live.tags if tag == "th")


def test_figures_have_axis_labels_with_units(live):
    for text in (
        "training step",
        "loss (nats)",
        "KL (nats per frame)",
        "leakage",
        "layer of the encoder (1 = first)",
    ):
        assert text in live.words


def test_curves_are_named_and_rate_does_not_dwarf_accuracy(live):
    for name in ("train/loss", "train/task", "dev/objective", "train/beta", "dev/wer", "dev/accuracy"):
        assert name in live.words
    assert "dev/rate_bits_per_second" not in live.words


def test_the_curves_of_a_stage_that_was_given_a_rate_show_its_aim(write):
    path = write(name="aimed")
    file = path / "seed0" / "stage1" / "metrics.csv"
    rows = list(csv.DictReader(file.read_text().splitlines()))
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, [*rows[0], "train/rate_bits_per_second", "train/aim_bits_per_second"])
        writer.writeheader()
        rates = {"train/rate_bits_per_second": 300.0, "train/aim_bits_per_second": 250.0}
        writer.writerows(row | (rates if row["train/beta"] else {}) for row in rows)
    drawn = {drawing.svg.count("train/aim_bits_per_second"): drawing for drawing in curves(read_run(path))}
    assert sorted(drawn) == [0, 1], "Stage 1 alone"
    assert "follows its aim" in drawn[1].caption
    assert "rate (bits per second)" in drawn[1].svg


def test_the_curves_of_a_stage_that_was_given_a_distance_show_the_allowed_error(write):
    path = write(name="within")
    file = path / "seed0" / "stage1" / "metrics.csv"
    rows = list(csv.DictReader(file.read_text().splitlines()))
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, [*rows[0], "dev/error", "dev/allowed_error"])
        writer.writeheader()
        writer.writerows(
            row | ({"dev/error": row["dev/wer"], "dev/allowed_error": 0.05} if row["dev/wer"] else {}) for row in rows
        )
    drawn = {drawing.svg.count("dev/allowed_error"): drawing for drawing in curves(read_run(path))}
    assert sorted(drawn) == [0, 1], "Stage 1 alone"
    assert "stays just below the allowed one" in drawn[1].caption
    for name in ("error on dev", "dev/error", "dev/rate_bits_per_second", "train/beta"):
        assert name in drawn[1].svg
    assert "dev/objective" not in drawn[1].svg, "it is mostly the error there"


def test_html_in_transcripts_labels_and_reasons_is_text(write, live):
    labels = {"speaker": [ATTACK, "_hidden", "y"], ATTACK: ["$a$", "<b>"]}
    path = write(
        "attacked",
        seeds=1,
        labels=labels,
        sentences=[f"SAID {ATTACK}"] * 4,
        skipped=[{"id": ATTACK, "reason": ATTACK}],
    )
    (path / "config.yaml").write_text(ATTACK)
    attacked = Elements(write_report(path).read_text())
    assert "script" not in attacked.names
    assert attacked.names - live.names <= {"ul", "li", "code"}  # the list of what was left out
    assert not [a for _, a in attacked.tags if any(name.startswith("on") for name in a)]
    assert attacked.words.count("<script>alert(1)</script>") >= 5
    assert "49" not in re.findall(r"&(\S+)\$", attacked.words)  # {{ 7*7 }} is not evaluated
    assert "_hidden" in attacked.words  # a leading underscore does not leave the legend


def test_the_same_run_gives_the_same_bytes(live_report):
    first = live_report.read_bytes()
    assert write_report(live_report.parent).read_bytes() == first


def test_a_run_that_does_not_say_where_it_comes_from_is_drawn_all_the_same(write):
    folder = write()
    (folder / "provenance.json").unlink()
    assert "· finished" not in write_report(folder).read_text()


def test_a_page_that_cannot_be_written_leaves_the_old_one(write, monkeypatch):
    path = write(only=("stage1",), seeds=1)
    write_report(path)
    before = (path / "report.html").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.os, "replace", full)
    with pytest.raises(UserError, match=r"report\.html cannot be written: No space left"):
        write_report(path)
    assert (path / "report.html").read_bytes() == before
    assert not list(path.glob(".report.*"))


def test_missing_classes_and_many_classes_are_drawn(write):
    path = write(seeds=1, labels={"speaker": [f"s{i:02}" for i in range(40)]}, utterances=200)
    file = path / "seed0" / "latent_map.json"
    data = json.loads(file.read_text())
    data["labels"]["speaker"][0] = None
    file.write_text(json.dumps(data))
    assert "other or unknown" in write_report(path).read_text()


def test_errors_are_marked_word_by_word():
    marked = mark(Transcript("u", "A B C D", "A X C D E"))
    assert marked.reference == [("A", ""), ("B", "changed"), ("C D", "")]
    assert marked.hypothesis == [("A", ""), ("X", "changed"), ("C D", ""), ("E", "added")]
    assert marked.wer == 0.5
    assert mark(Transcript("u", "A B", "")).reference == [("A B", "missed")]


def test_shown_transcripts_range_from_best_to_worst():
    transcripts = [Transcript(f"u{i}", "A " * 10, "A " * (10 - i)) for i in range(10)]
    assert [m.id for m in spread(transcripts, 4)] == ["u0", "u3", "u6", "u9"]


def test_report_imports_neither_torch_nor_lightning_nor_matplotlib():
    code = (
        "import sys, disentangle_lightning.report; "
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'jinja2', 'jiwer', 'rich') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
