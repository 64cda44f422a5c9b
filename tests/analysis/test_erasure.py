"""After LEACE, linear attackers find nothing of what was planted; an MLP still finds what is not linear."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipeline import command, finished_run

from disentangle_lightning.analysis.erasure import leakage
from disentangle_lightning.analysis.erasure.leace import Eraser, eraser_of
from disentangle_lightning.analysis.erasure.store import write_erased
from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.corpus.manifest import read_manifest
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.report.analysis_result import read_result

UTTERANCES, FRAMES, DIM = 240, 5, 12


def planted(seed: int) -> SplitLatents:
    """Frames in which `line` shifts one direction and `parity` is the sign of a product of two; `other` shifts a third.

    The values that make up the product belong to the utterance, so that its mean shows them.
    """
    rng = np.random.default_rng(seed)
    line, other = rng.integers(0, 2, UTTERANCES), rng.integers(0, 3, UTTERANCES)
    signs = rng.choice([-1.0, 1.0], size=(UTTERANCES, 2))
    parity = (signs.prod(axis=1) > 0).astype(int)
    frames = rng.normal(size=(UTTERANCES, FRAMES, DIM))
    frames[:, :, 0] += 3.0 * line[:, None]
    frames[:, :, 1:3] += 3.0 * signs[:, None]
    frames[:, :, 3] += 3.0 * other[:, None]
    lengths = torch.full((UTTERANCES,), FRAMES)
    return SplitLatents(
        [f"{seed}-{i}" for i in range(UTTERANCES)],
        Segments.from_lengths(lengths, UTTERANCES * FRAMES, FRAMES),
        {"hidden": torch.from_numpy(frames.reshape(-1, DIM)).float()},
        {},
        {"line": line, "parity": parity, "other": other},
        {"line": ["a", "b"], "parity": ["a", "b"], "other": ["a", "b", "c"]},
        [None] * UTTERANCES,
    )


def found(eraser: Eraser | None) -> dict[str, float]:
    """What attackers read after erasing."""
    splits = [planted(seed) for seed in (1, 2)]
    if eraser is not None:
        for split in splits:
            split.frames["hidden"] = eraser(split.frames["hidden"])
    return leakage("x", splits[0], splits[1], "hidden", np.arange(UTTERANCES) % 20)


def test_before_erasing_the_planted_labels_are_found() -> None:
    before = found(None)
    assert before["x.line.linear.leakage.ci_low"] > 0.9
    assert before["x.line.fit.leakage"] > 0.9
    assert before["x.parity.mlp.leakage.ci_low"] > 0.9
    assert before["x.parity.linear.leakage.ci_low"] < 0 < before["x.parity.linear.leakage.ci_high"]


def test_linear_attackers_find_nothing_after_erasing_not_even_where_it_was_fitted() -> None:
    after = found(eraser_of(planted(1), ["line"]))
    assert after["x.line.fit.leakage"] == pytest.approx(0, abs=0.01)
    assert after["x.line.linear.leakage.ci_low"] < 0.02
    assert after["x.line.linear.leakage"] < 0.1
    assert after["x.line.mlp.leakage"] < 0.2  # what was planted was linear
    assert after["x.other.linear.leakage"] > 0.85  # and nothing else was erased


def test_what_is_not_linear_stays_for_an_mlp() -> None:
    after = found(eraser_of(planted(1), ["parity"]))
    assert after["x.parity.fit.leakage"] == pytest.approx(0, abs=0.01)
    assert after["x.parity.mlp.leakage.ci_low"] > 0.8


def test_all_labels_are_erased_at_once_and_no_more_directions_than_they_need() -> None:
    latents = planted(1)
    eraser = eraser_of(latents, ["line", "other"])
    after = found(eraser)
    for label in ("line", "other"):
        assert after[f"x.{label}.fit.leakage"] == pytest.approx(0, abs=0.01)
    frames = latents.frames["hidden"]
    change = (eraser(frames) - frames).double()
    assert torch.linalg.matrix_rank(change, atol=1e-3) == 3  # one for two classes, two for three


def test_the_eraser_does_not_see_utterances_without_the_label() -> None:
    latents = planted(1)
    some = planted(1)
    some.labels["line"] = np.where(np.arange(UTTERANCES) < 120, some.labels["line"], -1)
    some.frames["hidden"][600:] += 100.0  # of the utterances without
    half = planted(1)
    keep = torch.arange(UTTERANCES * FRAMES) < 600
    half = SplitLatents(
        half.ids[:120],
        Segments.from_lengths(half.segments.lengths[:120], 600, FRAMES),
        {"hidden": half.frames["hidden"][keep]},
        {},
        {name: classes[:120] for name, classes in half.labels.items()},
        half.label_names,
        half.transcriptions[:120],
    )
    frames = latents.frames["hidden"]
    assert torch.allclose(eraser_of(some, ["line"])(frames), eraser_of(half, ["line"])(frames), atol=1e-5)


def test_the_analysis_of_a_run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run(tmp_path_factory), run, symlinks=True)
    status, errors = command("analyze", "erasure", run)
    assert status == 0, errors
    result = read_result(run / "analysis" / "erasure")
    for name in ("nothing", "speaker", "emotion", "all_labels", "textual"):
        assert result.measurements[f"erasure.{name}.wer"].ci_low is not None
        assert f"erasure.{name}.speaker.mlp.leakage" in result.measurements
    assert result.figures["erasure.nothing.speaker.linear.accuracy"] > 0.8  # two pitches: easily heard
    assert result.figures["erasure.speaker.speaker.fit.leakage"] < 0.5
    assert result.drawings
    # After an epoch nobody reads words: the page says so instead of comparing.
    assert ("The control failed" in " ".join(result.notes)) == (result.figures["erasure.nothing.wer"] > 0.5)
    assert not (run / "analysis" / "erasure" / "features").exists()


def test_each_way_of_erasing_is_a_layer_of_a_store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = TrainedRun(finished_run(tmp_path_factory))
    manifest, store = write_erased(run, {"nothing": lambda x: x, "half": lambda x: x / 2}, tmp_path)
    original, erased = FeatureStore.open(run.store), FeatureStore.open(store)
    assert erased.layers == [1, 2]
    wanted = {u.id for u in run.utterances.values() if u.split != "train"}
    assert set(erased.ids) == wanted == {u.id for u in read_manifest(manifest)}
    for i, id in enumerate(erased.ids):
        average = original.read(original.ids.index(id)).float().mean(1)
        layers = erased.read(i).float()
        torch.testing.assert_close(layers[:, 0], average, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(layers[:, 1], average / 2, atol=2e-3, rtol=2e-3)
