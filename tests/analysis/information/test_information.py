"""The analysis of a finished run: every figure under its name, and what is left out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipeline import command, finished_run

from disentangle_lightning.analysis.information import analyze
from disentangle_lightning.analysis.information.factors import all_factors
from disentangle_lightning.analysis.information.measures import readability, utterance_types
from disentangle_lightning.analysis.information.pairs import frame_pairs, utterance_pairs
from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.settings import InformationSettings
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


@dataclass(frozen=True)
class SmallRun:
    """What the analysis asks of a run."""

    probe: SplitLatents
    test: SplitLatents
    tasks: list[str]
    labels: list[str]
    seeds: tuple[int, ...] = (0,)
    frame_rate: float = 50.0

    def latents(self, seed: int, split: str) -> SplitLatents:
        return {"probe": self.probe, "test": self.test}[split]


def noise(utterances: int, texts: list[str | None], labels: dict[str, list[int]], seed: int) -> SplitLatents:
    """Latents that know nothing, of utterances of four frames."""
    generator = torch.Generator().manual_seed(seed)
    frames = {name: torch.randn(4 * utterances, 3, generator=generator) for name in ("hidden", "textual", "acoustic_x")}
    plain = latents(texts, labels, [4] * utterances)
    return replace(plain, frames=frames, kl={name: frames[name].square() for name in ("textual", "acoustic_x")})


def small_run(texts: list[str | None], labels: dict[str, list[int]], tasks: list[str], size: int = 24) -> Any:
    sides = (noise(size, texts, labels, seed) for seed in (0, 1))
    return SmallRun(*sides, tasks, list(labels))


def test_without_texts_or_tasks_what_can_be_measured_is(tmp_path: Path) -> None:
    labels = {"style": [0, 1, 2] * 8}
    settings = InformationSettings(permutations=9, frames=2)
    result = analyze(small_run([None] * 24, labels, ["x"]), settings, tmp_path)
    assert any("Disentanglement and modularity were left out" in note for note in result.notes)
    assert any("Selectivity of style was left out" in note for note in result.notes)
    assert "information.shared.acoustic_x.frame.cka" in result.figures
    assert not any("factors" in name or "selectivity" in name for name in result.figures)
    assert result.figures["information.acoustic_x.style.compression"] < 1.1

    result = analyze(small_run(["AB", "BA", "AA"] * 8, labels, []), settings, tmp_path)
    assert any("The run has no Stage 2" in note for note in result.notes)
    assert not any("shared" in name or "factors" in name for name in result.figures)
    assert "information.textual.text.compression" in result.figures


def test_of_a_handful_of_utterances_only_rates_are_measured(tmp_path: Path) -> None:
    result = analyze(small_run(["A"] * 4, {"style": [0, 1, 0, 1]}, ["x"], size=4), InformationSettings(), tmp_path)
    assert {name.split(".")[2] for name in result.figures} == {"rate", "active_dimensions"}
    assert any("less than 8 utterances" in note for note in result.notes)


def test_a_label_that_is_missing_here_and_there_is_read_where_it_is_known() -> None:
    labels = {"style": [0, 1, -1, 1] * 6}
    run = small_run([None] * 24, labels, ["x"])
    (factor,) = all_factors(run.probe, run.test)
    figures = readability(run.probe, run.test, "textual", factor, seed=0)
    assert set(factor.tested.tolist()) == {-1, 0, 1}
    assert figures["information.textual.style.compression.control"] > 0.8
