"""The script behind the frontier's table: which trainings it makes, on which utterances, and what it makes of them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from script_module import imported
from tiny_pipeline import EXPERIMENTS, finished_run

from disentangle_lightning.corpus.manifest import read_manifest


@pytest.fixture(scope="module")
def frontier() -> Iterator[ModuleType]:
    with imported(EXPERIMENTS / "frontier" / "frontier.py") as module:
        yield module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of its own: a share of its training data gets a manifest beside its own."""
    folder = tmp_path_factory.mktemp("frontier") / "run"
    shutil.copytree(finished_run(tmp_path_factory), folder, symlinks=True)
    return folder


def test_every_family_has_as_many_points_as_a_frontier_needs(frontier: ModuleType) -> None:
    counts = Counter(point.family for point in frontier.points())
    assert counts["paper_form"] >= 6
    assert counts["default"] >= 6
    settings = yaml.safe_load((EXPERIMENTS / "stage1" / "default.yaml").read_text())
    assert settings["model"]["init_args"]["beta"] in frontier.BETAS, "the default is one of them"


def test_a_share_leaves_out_training_utterances_alone_and_always_the_same(frontier: ModuleType, run: Path) -> None:
    utterances = read_manifest(run / "manifest.jsonl")
    before = Counter(u.split for u in utterances)
    kept = frontier.keep_share(utterances, 0.5)
    after = Counter(u.split for u in kept)
    assert after["train"] == round(before["train"] / 2)
    assert all(after[name] == before[name] > 0 for name in ("probe", "dev", "test"))
    assert [replace(u, split=None) for u in kept] == [replace(u, split=None) for u in utterances]
    assert kept == frontier.keep_share(utterances, 0.5)
    assert frontier.keep_share(utterances, 1.0) == utterances


def test_a_point_is_trained_once_and_its_table_has_mean_and_deviation(
    frontier: ModuleType, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(frontier, "BETAS", (0.03,))
    arguments = [str(run), "--out", str(tmp_path / "out"), "--label", "speaker", "--families", "default"]
    arguments += ["--seeds", "0", "1", "--epochs", "1", "--share", "0.5"]
    results = frontier.main(arguments)
    (figures,) = results.values()
    assert len(figures) == 2
    assert all(f["stage1.wer"] > 0 and f["probe.textual.speaker.chance"] == 0.5 for f in figures)
    printed = capsys.readouterr().out
    assert "beta0.03" in printed
    assert "\u00b1" in printed

    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(frontier, "train", never)
    assert frontier.main(arguments) == results


def test_distances_are_from_a_control_that_is_trained_before(
    frontier: ModuleType, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier, "DISTANCES", (0.05,))
    arguments = [str(run), "--out", str(tmp_path / "out"), "--label", "speaker", "--families", "within"]
    results = frontier.main([*arguments, "--seeds", "0", "--epochs", "1"])
    rates = {point.name: figures[0]["stage1.rate_bits_per_second"] for point, figures in results.items()}
    assert rates.keys() == {"control", "distance0.05"}
    assert rates["control"] == 0 < rates["distance0.05"]


def test_spread_of_one_seed_has_no_deviation(frontier: ModuleType) -> None:
    assert frontier.spread([0.25], 2) == "0.25"
    assert frontier.spread([1.0, 3.0], 1) == "2.0 \u00b1 1.4"
