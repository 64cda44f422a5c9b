"""A run directory written by hand in the pipeline's layout, small but with everything a report shows."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disentangle_lightning.report.run_directory import RunDirectory, read_run

LABELS = {
    "speaker": ["Adam", "Belinda", "Edward", "Linda", "Max", "Storm"],
    "style": ["calm", "excited", "slow", "whisper"],
}
TASKS = ("speaker", "style")
SENTENCES = [
    "THE SMALL BOAT DRIFTED SLOWLY ACROSS THE QUIET HARBOUR",
    "NOBODY REMEMBERS WHERE THE OLD KEY WAS HIDDEN",
    "THEY PAINTED SEVEN WOODEN CHAIRS BEFORE THE RAIN BEGAN",
    "A LONG WINTER MAKES FOR A GOOD HARVEST",
]

LIVE: dict[str, dict[str, float]] = {
    "stage1": {
        "stage1.wer": 0.104,
        "stage1.cer": 0.041,
        "stage1.rate_bits_per_second": 148.2,
        "stage1.active_dimensions": 41.0,
        "stage1.kl_nats_per_frame": 2.054,
        "stage1.infeasible": 0.0,
    },
    "probe_hidden": {
        "probe.hidden.speaker.accuracy": 0.97,
        "probe.hidden.style.accuracy": 0.96,
        "probe.hidden.ctc.wer": 0.071,
        "probe.hidden.ctc.cer": 0.025,
    },
    "probe_textual": {
        "probe.textual.speaker.accuracy": 0.19,
        "probe.textual.style.accuracy": 0.28,
        "probe.textual.ctc.wer": 0.112,
        "probe.textual.ctc.cer": 0.044,
    },
    "probe_duration": {"probe.duration.speaker.accuracy": 0.17, "probe.duration.style.accuracy": 0.26},
    "stage2_speaker": {
        "stage2_speaker.accuracy": 0.981,
        "stage2_speaker.rate_bits_per_second": 63.9,
        "stage2_speaker.active_dimensions": 17.0,
        "stage2_speaker.kl_nats_per_frame": 0.886,
    },
    "stage2_style": {
        "stage2_style.accuracy": 0.942,
        "stage2_style.rate_bits_per_second": 40.3,
        "stage2_style.active_dimensions": 9.0,
        "stage2_style.kl_nats_per_frame": 0.559,
    },
    "probe_acoustic_speaker": {
        "probe.acoustic_speaker.speaker.accuracy": 0.975,
        "probe.acoustic_speaker.style.accuracy": 0.512,
        "probe.acoustic_speaker.ctc.wer": 0.987,
        "probe.acoustic_speaker.ctc.cer": 0.803,
    },
    "probe_acoustic_style": {
        "probe.acoustic_style.speaker.accuracy": 0.405,
        "probe.acoustic_style.style.accuracy": 0.936,
        "probe.acoustic_style.ctc.wer": 0.994,
        "probe.acoustic_style.ctc.cer": 0.822,
    },
}
CHANCE = {"speaker": 1 / 6, "style": 0.25}

WriteRun = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteRun:
    """write(name='demo', change={figure: value}, ...) -> the run directory; see `write_run`."""

    def write_here(name: str = "demo", **options: Any) -> Path:
        return write_run(tmp_path / name, **options)

    return write_here


@pytest.fixture(scope="module")
def write_once() -> WriteRun:
    """`write_run` itself, for a page that many tests read."""
    return write_run


@pytest.fixture
def read(write: WriteRun) -> Callable[..., RunDirectory]:
    """As `write`, read back."""
    return lambda **options: read_run(write(**options))


def write_run(
    path: Path,
    *,
    change: dict[str, float] | None = None,
    change_seed: dict[int, dict[str, float]] | None = None,
    only: tuple[str, ...] | None = None,
    seeds: int = 2,
    labels: dict[str, list[str]] = LABELS,
    sentences: list[str] = SENTENCES,
    skipped: list[dict[str, str]] | None = None,
    kl: Callable[[float], float] = lambda progress: 2.0 + progress,
    utterances: int = 60,
) -> Path:
    """Write a run of which `only` some steps have finished, with some figures of all seeds or of one changed."""
    dice = random.Random(0)
    steps = {name: figures for name, figures in LIVE.items() if only is None or name in only}
    everything: list[dict[str, float]] = []
    for seed in range(seeds):
        jitter = 0.004 * (seed - (seeds - 1) / 2)
        values: dict[str, float] = {}
        for step, figures in steps.items():
            mine = {name: v + jitter * (1 if v < 1 else 10) if v else v for name, v in figures.items()}
            changed = (change or {}) | (change_seed or {}).get(seed, {})
            mine |= {name: v for name, v in changed.items() if name in mine}
            _add_chance_and_leakage(mine)
            folder = path / f"seed{seed}" / step
            _write(folder / "summary.json", mine)
            _write_step(folder, step, labels, sentences, kl)
            values |= mine
        everything.append(values)
        if only is None:
            _write(path / f"seed{seed}" / "latent_map.json", _latent_map(dice, labels, utterances))
    (path / "seed0").mkdir(parents=True, exist_ok=True)
    if only is None:
        _write(path / "summary.json", _average(everything))
    _write(path / "corpus.json", _corpus(labels, skipped or []))
    _write(
        path / "provenance.json",
        {
            "command": "python -m disentangle_lightning pipeline --config experiments/demo.yaml",
            "versions": {
                "python": "3.11.2",
                "torch": "2.14.1",
                "lightning": "2.6.6",
                "transformers": "5.23.0",
            },
            "git": "e333a81",
            "manifest_sha256": "5c3f0a9d7e",
            "encoder": {
                "name": "embedded",
                "family": "wav2vec2",
                "layers": 5,
                "dim": 192,
                "frame_rate": 50.0,
            },
            "seconds": {"encode": 31.2, "stage1": 55.0, "stage2_speaker": 20.5, "probes": 61.3},
            "started": "2026-11-22T10:00:00",
            "finished": "2026-11-22T10:03:31",
        },
    )
    (path / "config.yaml").write_text("encoder: embedded\ntasks: [speaker, style]\nstage1:\n  beta: 0.1\n")
    return path


def _add_chance_and_leakage(figures: dict[str, float]) -> None:
    for name in [n for n in figures if n.endswith(".accuracy")]:
        base = name.removesuffix(".accuracy")
        chance = CHANCE[base.split(".")[-1].removeprefix("stage2_")]
        figures[f"{base}.chance"] = chance
        if base.startswith("probe."):
            figures[f"{base}.leakage"] = (figures[name] - chance) / (1 - chance)


def _average(seeds: list[dict[str, float]]) -> dict[str, float]:
    summary = {}
    for name in seeds[0]:
        values = [s[name] for s in seeds]
        mean = sum(values) / len(values)
        summary |= {
            name: mean,
            f"{name}.std": (sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)) ** 0.5,
        }
        if name.endswith((".leakage", ".wer", ".accuracy")):
            summary |= {f"{name}.ci_low": mean - 0.02, f"{name}.ci_high": mean + 0.02}
    return summary


def _write_step(
    folder: Path, step: str, labels: dict[str, list[str]], sentences: list[str], kl: Callable[[float], float]
) -> None:
    weights = {"layers": [1, 2, 3, 4, 5], "weights": [0.05, 0.1, 0.2, 0.4, 0.25]}
    if step.startswith("stage"):
        _write(folder / "layer_weights.json", weights)
    elif step == "probe_hidden":
        _write(folder / "layer_weights.json", dict.fromkeys([*labels, "ctc"], weights))
    if step in ("stage1", "probe_hidden", "probe_textual"):
        heard = [s.replace("SMALL", "TALL").replace("WHERE THE ", "WHERE ") for s in sentences]
    else:
        heard = ["THE A THE" if i % 2 else "" for i in range(len(sentences))]
    if step != "probe_duration" and not step.startswith("stage2"):
        pairs = enumerate(zip(sentences, heard, strict=True))
        _write(
            folder / "transcripts.json",
            [{"id": f"utt{i}", "reference": r, "hypothesis": h} for i, (r, h) in pairs],
        )
    measured = "dev/wer" if step == "stage1" else "dev/accuracy"
    dev = ["dev/objective", "dev/rate_bits_per_second", measured]
    columns = ["step", "epoch", "train/loss", "train/task", "train/kl_nats_per_frame", "train/beta", *dev]
    with (folder / "metrics.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, columns)
        rows.writeheader()
        for i in range(60):
            x = i / 59
            task, beta = 3.0 * 0.05**x + 0.1, min(1.0, 0.1 + x)
            rows.writerow(
                {
                    "step": 10 * i,
                    "epoch": i // 10,
                    "train/loss": task + beta * kl(x) / 10,
                    "train/task": task,
                    "train/kl_nats_per_frame": kl(x),
                    "train/beta": beta,
                }
            )
            if i % 10 == 9:
                values = zip(dev, (task + 0.2, 150.0, 0.9 - 0.8 * x), strict=True)
                rows.writerow({"step": 10 * i, "epoch": i // 10, **dict(values)})


def _latent_map(dice: random.Random, labels: dict[str, list[str]], utterances: int) -> dict[str, Any]:
    drawn = {name: [dice.choice(classes) for _ in range(utterances)] for name, classes in labels.items()}

    def points(apart: str | None) -> dict[str, Any]:
        centres = {c: (10 * (i % 3), 8 * (i // 3)) for i, c in enumerate(labels[apart])} if apart else {}
        where = [centres[c] if apart else (5, 5) for c in (drawn[apart] if apart else [""] * utterances)]
        width = 1.2 if apart else 5
        return {"points": [[dice.gauss(x, width), dice.gauss(y, width)] for x, y in where]}

    names = list(labels)
    return {
        "textual": points(None),
        **{f"acoustic_{task}": points(name) for task, name in zip(TASKS, names, strict=False)},
        "labels": drawn,
        "ids": [f"utt{i}" for i in range(utterances)],
        "method": "t-SNE of utterance means",
    }


def _corpus(labels: dict[str, list[str]], skipped: list[dict[str, str]]) -> dict[str, Any]:
    sizes = {"train": 1200, "probe": 600, "dev": 200, "test": 400}
    return {
        "splits": {s: {"utterances": n, "hours": n * 2.4 / 3600, "speakers": 6} for s, n in sizes.items()},
        # Older runs did not tell train from probe.
        "shared": {"speakers": {"test": 6, "trained": 6, "probed": 0}, "sentences": {"test": 40, "trained": 0}},
        "labels": {name: dict.fromkeys(classes, 2400 // len(classes)) for name, classes in labels.items()},
        "skipped": skipped,
        "unknown_characters": {},
    }


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
