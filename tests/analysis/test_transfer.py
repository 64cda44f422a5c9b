"""On other speech a run is tested as on its own, noise does harm, and a stage that falls silent is called so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from planted import plant
from tiny_pipeline import command, finished_run, refused, write_corpus

from disentangle_lightning.analysis.transfer.listener import Heard, Trained, collapsed, figures_of
from disentangle_lightning.corpus.manifest import read_manifest, write_manifest
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.report.analysis_result import read_result
from disentangle_lightning.tasks.stage1 import Stage1VIB

SETTINGS = ("--utterances", "8", "--noise", "[white, babble]", "--snr", "[0]", "--rt60", "[0.3]")


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, tested on noise and on itself as if it were another."""
    base = tmp_path_factory.mktemp("transfer")
    shutil.copytree(finished_run(tmp_path_factory), base / "run", symlinks=True)
    write_corpus(base / "corpus")
    shutil.copytree(base / "run", base / "other", symlinks=True)
    status, errors = command("analyze", "transfer", base / "run", *SETTINGS, "--others", f"[{base / 'other'}]")
    assert status == 0, errors
    return base / "run"


def test_speech_that_is_not_spoilt_gives_the_figures_of_the_run(analyzed: Path) -> None:
    result = read_result(analyzed / "analysis" / "transfer")
    known: dict[str, float] = {}
    for file in (analyzed / "seed0").glob("*/summary.json"):
        known |= json.loads(file.read_text())
    own = {
        name.removeprefix("transfer.run_other."): value
        for name, value in result.figures.items()
        if name.startswith("transfer.run_other.") and not name.endswith((".variance", ".collapsed"))
    }
    compared = own.keys() & known.keys()
    assert {
        "stage1.wer",
        "stage1.rate_bits_per_second",
        "stage2_emotion.accuracy",
        "stage2_emotion.leakage",
    } <= compared
    assert {f"probe.{r}.speaker.leakage" for r in ("hidden", "textual", "acoustic_emotion")} <= compared
    for name in compared:
        assert own[name] == pytest.approx(known[name], rel=1e-4), name
    # All eight test utterances are among those that are encoded anew, in float32 where the store has float16.
    for name in ("stage1.rate_bits_per_second", "stage2_emotion.rate_bits_per_second", "stage1.variance"):
        clean, stored = (result.figures[f"transfer.{c}.{name}"] for c in ("clean", "run_other"))
        assert clean == pytest.approx(stored, rel=1e-2)


def test_each_condition_has_its_figures_and_readers_that_know_it(analyzed: Path) -> None:
    result = read_result(analyzed / "analysis" / "transfer")
    for condition in ("clean", "white_0db", "babble_0db", "reverb_300ms"):
        for name in ("stage1.wer", "stage1.rate_bits_per_second", "reader.textual.speaker.leakage"):
            assert result.measurements[f"transfer.{condition}.{name}"].ci_low is not None
    rates = {c: result.figures[f"transfer.{c}.stage1.rate_bits_per_second"] for c in ("clean", "white_0db")}
    assert rates["white_0db"] != pytest.approx(rates["clean"], rel=1e-3)
    # Speakers are told apart by 200 and 300 Hz alone, which hidden states show.
    assert result.figures["transfer.clean.reader.hidden.speaker.accuracy"] == 1.0
    page = (analyzed / "report.html").read_text()
    assert 'id="transfer-' in page


def test_a_condition_that_was_measured_is_not_measured_again(analyzed: Path) -> None:
    folder = analyzed / "analysis" / "transfer"
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*_*.json")}
    (folder / "result.json").unlink()
    (folder / "babble_0db.json").unlink()
    other = analyzed.parent / "other"
    assert command("analyze", "transfer", analyzed, *SETTINGS, "--others", f"[{other}]")[0] == 0
    after = {file.name: file.stat().st_mtime_ns for file in folder.glob("*_*.json")}
    assert {name for name in before if before[name] != after[name]} == {"babble_0db.json"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--noise", "[pink]"], "field 'noise' names 'pink'; expected white or babble"),
        (["--rt60", "[0]"], "fields 'utterances' and 'rt60' must be above zero"),
        (["--snr", "[5, 5.0]"], "two kinds of speech would both be called 'white_5db'"),
        (["--others", "[nowhere]"], "nowhere has no config.yaml"),
    ],
)
def test_bad_settings_are_named(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, arguments: list[str], words: str
) -> None:
    shutil.copytree(finished_run(tmp_path_factory), tmp_path / "run", symlinks=True)
    assert words in refused("analyze", "transfer", tmp_path / "run", *arguments)


def test_the_collapse_alarm_hears_a_stage_that_falls_silent_and_no_other(tmp_path: Path) -> None:
    data = plant(tmp_path).data(labels=["emotion"])
    torch.manual_seed(0)
    stage = Stage1VIB(data.inputs, latent_dim=4, learning_rate=0.0, warmup_fraction=0.0)
    _teach_to_follow(stage)
    batches = list(data.test_dataloader())
    trained = Trained(stage.eval(), {}, {}, {"train": data.label_counts, "probe": data.label_counts})

    def figures(change: float, noise: float) -> dict[str, float]:
        rng = torch.Generator().manual_seed(1)
        heard = Heard()
        for batch in batches:
            drawn = noise * torch.randn(batch.features.shape, generator=rng)
            heard.add(_with(batch, change * batch.features.float() + drawn), trained, data.label_names)
        return figures_of(heard, heard, data.label_names, trained, 50.0)

    clean = figures(1.0, 0.0)
    assert clean["stage1.rate_bits_per_second"] > 1
    assert collapsed(clean, clean) == []
    assert collapsed(figures(1.0, 0.3), clean) == []
    silent = figures(0.0, 0.05)  # noise in place of speech, too weak for a latent to follow
    assert silent["stage1.rate_bits_per_second"] < 0.1 * clean["stage1.rate_bits_per_second"]
    assert collapsed(silent, clean) == ["stage1"]


@pytest.mark.parametrize(
    ("rate", "variance", "before", "alarm"),
    [
        (100.0, 2.0, 100.0, []),
        (11.0, 2.0, 100.0, []),
        (9.0, 2.0, 100.0, ["stage1"]),  # a tenth of the rate
        (0.5, 2.0, 4.0, ["stage1"]),  # under one bit a second
        (100.0, 0.1, 100.0, ["stage1"]),  # the same latent at every frame
        (0.0, 2.0, 0.0, []),  # no bottleneck: there is no rate
        (0.0, 0.1, 0.0, ["stage1"]),
    ],
)
def test_when_a_stage_has_collapsed(rate: float, variance: float, before: float, alarm: list[str]) -> None:
    now = {"stage1.rate_bits_per_second": rate, "stage1.variance": variance}
    assert collapsed(now, {"stage1.rate_bits_per_second": before, "stage1.variance": 2.0}) == alarm


def test_variance_is_summed_over_dimensions():
    z = torch.tensor(np.random.default_rng(0).normal(size=(100, 3)))
    heard = Heard(frames=[60, 40], sums={"stage1": z.sum(0)}, squares={"stage1": z.square().sum(0)})
    assert heard.variance("stage1") == pytest.approx(float(z.var(0, correction=0).sum()))


def _teach_to_follow(stage: Stage1VIB) -> None:
    """Weights with which the latent is the features' first dimensions, through the bottleneck's two GELUs."""
    with torch.no_grad():
        for parameter in stage.latent_encoder.bottleneck.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.eye(*parameter.shape))
            else:
                parameter.zero_()


def _with(batch: FrameBatch, features: torch.Tensor) -> FrameBatch:
    return FrameBatch(
        features, batch.segments, batch.ids, batch.targets, batch.target_lengths, batch.labels, batch.transcriptions
    )


def test_a_language_in_other_letters_and_a_label_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Of another run, nothing but the encoder need be the same: readers are fitted for a label that no stage knows."""
    for name in ("run", "russian"):
        shutil.copytree(finished_run(tmp_path_factory), tmp_path / name, symlinks=True)
    write_corpus(tmp_path / "corpus")
    other = tmp_path / "russian"
    utterances = read_manifest(other / "manifest.jsonl")
    foreign = [
        replace(u, transcription="да нет", labels={"intent": "ask" if u.speaker == "s0" else "tell"})
        for u in utterances
    ]
    write_manifest(other / "manifest.jsonl", foreign)
    config = yaml.safe_load((other / "config.yaml").read_text()) | {"tasks": [], "labels": ["intent"]}
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    none = ("--noise", "[]", "--rt60", "[]", "--utterances", "8")
    status, errors = command("analyze", "transfer", tmp_path / "run", *none, "--others", f"[{other}]")
    assert status == 0, errors
    found = {
        name.removeprefix("transfer.run_russian."): value
        for name, value in read_result(tmp_path / "run" / "analysis" / "transfer").figures.items()
        if name.startswith("transfer.run_russian.")
    }
    assert found["reader.hidden.intent.accuracy"] == 1, "who asks has another pitch"
    assert found["stage1.rate_bits_per_second"] > 0
    assert not [name for name in found if ".wer" in name], "Stage 1 has no letter for any of these words"
    assert not [name for name in found if "emotion.accuracy" in name or name.startswith("probe.")]
