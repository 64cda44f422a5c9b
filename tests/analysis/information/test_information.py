"""The analysis of a finished run: every figure under its name, and what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipeline import command, finished_run

from disentangle_lightning.analysis.information.measures import utterance_types
from disentangle_lightning.analysis.information.pairs import frame_pairs, utterance_pairs
from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.report.analysis_result import read_result


def test_a_finished_run_has_every_figure(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run(tmp_path_factory), run, symlinks=True)
    status, errors = command("analyze", "information", run, "--permutations", "19", "--frames", "2")
    assert status == 0, errors
    result = read_result(run / "analysis" / "information")
    wanted = ["information.textual.rate", "information.acoustic_emotion.active_dimensions"]
    for level in ("utterance", "frame"):
        for measure in ("infonce", "club", "hsic", "cka"):
            name = f"information.shared.acoustic_emotion.{level}.{measure}"
            wanted += [name, f"{name}.null", f"{name}.p"]
            # Two epochs on eight utterances: no test of independence can be sure of anything.
            assert 1 / 20 <= result.figures[f"{name}.p"] <= 1
    for representation in ("hidden", "textual", "acoustic_emotion"):
        for label in ("emotion", "speaker"):
            wanted.append(f"information.{representation}.{label}.compression")
            wanted.append(f"information.factors.acoustic_emotion.importance.{label}.textual")
            wanted += [f"information.{representation}.{label}.selectivity.{probe}" for probe in ("linear", "mlp")]
    assert set(wanted) <= set(result.measurements)
    assert {f"{name}.ci_low" for name in wanted if not name.endswith((".p", ".null", "dimensions"))} <= set(
        result.figures
    )
    assert all(np.isfinite(value) for value in result.figures.values())
    rate = TrainedRun(run).latents(0, "test").kl["textual"].sum(1).mean() * TrainedRun(run).frame_rate / np.log(2)
    assert result.figures["information.textual.rate"] == pytest.approx(float(rate), rel=1e-4)


def latents(texts: list[str | None], labels: dict[str, list[int]], lengths: list[int] | None = None) -> SplitLatents:
    """Utterances whose frames count up from 0 in x and down in y."""
    lengths = [3] * len(texts) if lengths is None else lengths
    total = sum(lengths)
    count = torch.arange(total, dtype=torch.float32)[:, None]
    return SplitLatents(
        [str(i) for i in range(len(texts))],
        Segments.from_lengths(torch.tensor(lengths), total, max(lengths)),
        {"x": count, "y": -count},
        {},
        {name: np.array(values) for name, values in labels.items()},
        {name: [str(c) for c in range(max(values) + 1)] for name, values in labels.items()},
        texts,
    )


def test_frames_are_the_same_ones_of_both_representations_from_beginning_to_end() -> None:
    split = latents(["a", "b"], {}, [2, 10])
    pairs = frame_pairs(split, "x", "y", 4)
    assert pairs.x[..., 0].tolist() == [[0, 0, 1, 1], [3, 5, 8, 10]]
    assert (pairs.y == -pairs.x).all()
    assert utterance_pairs(split, "x", "y").x[:, 0, 0].tolist() == [0.5, 6.5]


def test_types_are_labels_and_texts_that_come_back() -> None:
    labels = {"speaker": [0, 1], "style": [0, 0]}
    probe, test = latents(["ONE", "TWO"], labels), latents(["TWO", "ONE"], labels)
    types = utterance_types(probe, test, "speaker")
    assert types is not None
    assert len(set(types)) == 4
    assert utterance_types(probe, latents(["SIX", "TEN"], labels), "speaker") is None
    assert utterance_types(probe, latents(["SIX", "TEN"], labels), "style") == [(0, 0, None), (1, 0, None)] * 2
