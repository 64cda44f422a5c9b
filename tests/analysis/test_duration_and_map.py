"""The duration baseline finds what length and rate give away and nothing else; the latent map is a fixed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipeline import finished_run

from disentangle_lightning.analysis import latent_map
from disentangle_lightning.analysis.duration import duration_figures
from disentangle_lightning.analysis.latent_map import write_latent_map
from disentangle_lightning.corpus.manifest import Utterance, audio_hash, read_manifest, write_manifest
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.layout import FORMAT
from disentangle_lightning.features.writer import StoreWriter

SIZES = {"train": 4, "probe": 30, "dev": 4, "test": 200}


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> FrameFeatureDataModule:
    """Clips of which `length` is told by the frames, `rate` by the frames per letter, and `coin` by nothing.

    Features are zeros: whoever reads a label has read it from the clip's length and transcription.
    """
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("timed")
    utterances, lengths = [], []
    for split, size in SIZES.items():
        for i in range(size):
            letters = int(rng.integers(5, 15))
            slow = i % 2
            lengths.append(letters * (8 if slow else 5) + int(rng.integers(3)))
            labels = {
                "length": "long" if lengths[-1] > 60 else "short",
                "rate": "slow" if slow else "fast",
                "coin": ("heads", "tails")[int(rng.integers(2))],
            }
            if i == 3:
                del labels["coin"]
            clip = folder / f"{split}{i:03d}.wav"
            utterances.append(Utterance(clip.stem, clip, transcription="A" * letters, split=split, labels=labels))
    write_manifest(folder / "manifest.jsonl", utterances)
    header = {
        "format": FORMAT,
        "encoder": {"name": "zeros", "fingerprint": "0", "layers": 1, "window_seconds": None},
        "precision": "fp32",
        "layers": [1],
        "dtype": "float16",
        "dim": 1,
        "frame_rate": 50.0,
        "manifest_sha256": audio_hash(read_manifest(folder / "manifest.jsonl"), folder),
        "versions": {},
    }
    with StoreWriter(folder / "store", header, shard_bytes=1_000_000) as writer:
        writer.add([(u.id, torch.zeros(n, 1, 1).half()) for u, n in zip(utterances, lengths, strict=True)])
        writer.finish([])
    files = str(folder / "manifest.jsonl"), str(folder / "store")
    return FrameFeatureDataModule(*files, ["length", "rate", "coin"], train_split="probe")


@pytest.mark.parametrize("label", ["length", "rate"])
def test_what_length_and_speaking_rate_give_away_is_found(timed: FrameFeatureDataModule, label: str) -> None:
    figures = duration_figures(timed)
    assert figures[f"probe.duration.{label}.accuracy"] > 0.9
    assert figures[f"probe.duration.{label}.leakage.ci_low"] > 0.6


def test_a_label_that_has_nothing_to_do_with_time_is_guessed(timed: FrameFeatureDataModule) -> None:
    figures = duration_figures(timed)
    low, high = (figures[f"probe.duration.coin.leakage.{end}"] for end in ("ci_low", "ci_high"))
    assert low < 0 < high < 0.3


def test_the_baseline_is_the_same_on_every_call(timed: FrameFeatureDataModule) -> None:
    assert duration_figures(timed) == duration_figures(timed)


def map_of(run: Path, file: Path) -> dict[str, Any]:
    data = FrameFeatureDataModule(
        str(run / "manifest.jsonl"), str(run / "features"), ["emotion", "speaker"], train_split="probe"
    )
    write_latent_map(data, {"emotion": run / "seed0" / "stage2_emotion" / "checkpoints" / "best.ckpt"}, file)
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_the_latent_map_is_the_same_on_every_call(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = finished_run(tmp_path_factory)
    map_of(run, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (run / "seed0" / "latent_map.json").read_text()


def test_every_test_utterance_is_on_the_map_once_with_its_own_labels(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run = finished_run(tmp_path_factory)
    content = map_of(run, tmp_path / "map.json")
    tested = {u.id: u for u in read_manifest(run / "manifest.jsonl") if u.split == "test"}
    assert sorted(content["ids"]) == sorted(tested)
    for name in ("emotion", "speaker"):
        assert content["labels"][name] == [tested[id].label(name) for id in content["ids"]]
    for representation in ("textual", "acoustic_emotion"):
        assert np.array(content[representation]["points"]).shape == (len(tested), 2)


def test_a_large_test_split_is_thinned_out_evenly(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path_factory)
    everyone = map_of(run, tmp_path / "all.json")["ids"]
    monkeypatch.setattr(latent_map, "MOST_POINTS", 3)
    content = map_of(run, tmp_path / "few.json")
    assert content["ids"] == [everyone[0], everyone[(len(everyone) - 1) // 2], everyone[-1]]
    assert [len(values) for values in content["labels"].values()] == [3, 3]
    assert len(content["textual"]["points"]) == 3


def test_neighbours_stay_neighbours_on_the_map() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.eye(3, 8) * 20, 15, axis=0) + rng.normal(size=(45, 8))
    points = np.array(latent_map._tsne(clusters.astype(np.float32)))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.diag(np.full(45, np.inf))
    assert (distances.argmin(axis=1) // 15 == np.arange(45) // 15).all()


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (4, 1), (9, 4)])
def test_few_points_and_points_in_one_place_have_a_map_too(shape: tuple[int, int]) -> None:
    points = np.array(latent_map._tsne(np.ones(shape, np.float32)))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
