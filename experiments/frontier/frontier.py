"""Word errors of Stage 1 against what z_textual tells of a label: several settings, each with several seeds.

    python experiments/frontier/frontier.py runs/real_speech --label speaker --out runs/frontier/real_speech --epochs 60
    python experiments/frontier/frontier.py runs/demo --label speaker --out runs/frontier/demo

The corpus, its splits and its features are those of a finished pipeline. Every point is a training of Stage 1 and one
of a linear probe on its z_textual, each in a directory of its own under --out; started again, it goes on where it
stopped, and ends with the table. `--share 0.1` trains on a tenth of the training utterances; dev, probe and test stay
whole.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from disentangle_lightning.corpus.manifest import Utterance, read_manifest, write_manifest
from disentangle_lightning.tasks.training import train

EXPERIMENTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Point:
    """One place of a frontier: a stage file, and what is set differently."""

    family: str
    name: str
    config: str
    arguments: tuple[str, ...] = ()


PAPER_BETAS = (0.03, 0.1, 0.2, 0.35, 0.6, 1.0)
BETAS = (0.001, 0.003, 0.01, 0.03, 0.06, 0.12)
UNLABELLED_BETAS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
RATES = (150.0, 250.0, 400.0)
DISTANCES = (0.01, 0.02, 0.05)
FAMILIES = ["paper", "paper_form", "default", "unlabelled", "rate", "within"]

CONTROL = Point(
    "within",
    "control",
    "unlabelled",
    ("--model.init_args.deterministic", "true", "--model.init_args.schedule", "fixed"),
)
"""Before the points that are measured by it."""


def points() -> list[Point]:
    """The preset `paper`; its form with fixed betas and 16 utterances a step; the default; that which hides nothing by
    name; and the latter by rate, without a bottleneck, and within distances of that."""
    model = "--model.init_args."
    form = (f"{model}schedule", "fixed", f"{model}learning_rate", "2.0e-3", "--data.max_utterances", "16")
    return [
        Point("paper", "preset", "paper"),
        *(Point("paper_form", f"beta{b}", "paper", (*form, f"{model}beta", str(b))) for b in PAPER_BETAS),
        *(Point("default", f"beta{b}", "default", (f"{model}beta", str(b))) for b in BETAS),
        *(Point("unlabelled", f"beta{b}", "unlabelled", (f"{model}beta", str(b))) for b in UNLABELLED_BETAS),
        *(Point("rate", f"rate{r}", "unlabelled", (f"{model}schedule", "rate", f"{model}rate", str(r))) for r in RATES),
        CONTROL,
        *(
            Point("within", f"distance{d}", "unlabelled", (f"{model}schedule", "within", f"{model}distance", str(d)))
            for d in DISTANCES
        ),
    ]


def keep_share(utterances: Sequence[Utterance], share: float) -> list[Utterance]:
    """The same utterances, of whose training split only a share is left, drawn evenly and the same every time.

    The others stay, without a split: a feature store goes with all utterances that it was made of.
    """
    places = [i for i, utterance in enumerate(utterances) if utterance.split == "train"]
    kept = set(np.random.default_rng(0).permutation(places)[: round(share * len(places))].tolist())
    return [u if u.split != "train" or i in kept else replace(u, split=None) for i, u in enumerate(utterances)]


def measure(point: Point, seed: int, folder: Path, data: list[str], label: str, epochs: int | None) -> dict[str, float]:
    """The figures of one training and its probe, which are made unless they are there."""
    run = folder / point.family / point.name / f"seed{seed}"
    quiet = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--seed_everything", str(seed)]
    stage1 = ["--config", str(EXPERIMENTS / "stage1" / f"{point.config}.yaml"), *point.arguments]
    if point.config == "default":
        stage1 += ["--model.init_args.hide", f"[{label}]", "--data.hidden_labels", f"[{label}]"]
    if "within" in point.arguments:
        control = folder / CONTROL.family / CONTROL.name / f"seed{seed}" / "stage1"
        stage1 += ["--model.init_args.control", str(control)]
    if epochs is not None:
        stage1 += ["--trainer.max_epochs", str(epochs)]
    source = str(run / "stage1" / "checkpoints" / "best.ckpt")
    model = {"representation": "textual", "source": source, "targets": f"[{label}]"}
    probe = ["--config", str(EXPERIMENTS / "probe" / "default.yaml"), "--data.labels", f"[{label}]"]
    probe += [part for name, value in model.items() for part in (f"--model.init_args.{name}", value)]
    figures: dict[str, float] = {}
    for name, arguments in (("stage1", stage1), ("probe", probe)):
        summary = run / name / "summary.json"
        if not summary.is_file():
            train(["fit", *arguments, *data, *quiet, "--run_dir", str(run / name)])
        figures |= json.loads(summary.read_text(encoding="utf-8"))
    return figures


def show(results: dict[Point, list[dict[str, float]]], label: str) -> Table:
    """One row a point: mean and standard deviation over seeds."""
    columns = {
        "WER %": ("stage1.wer", 100.0),
        f"leakage of {label}": (f"probe.textual.{label}.leakage", 1.0),
        "bits/s": ("stage1.rate_bits_per_second", 1.0),
    }
    table = Table("family", "point", "seeds", *columns)
    for point, figures in results.items():
        cells = [spread([scale * f[name] for f in figures], 1 if scale > 1 else 3) for name, scale in columns.values()]
        table.add_row(point.family, point.name, str(len(figures)), *cells)
    return table


def spread(values: Sequence[float], digits: int) -> str:
    """Mean, and standard deviation where there are two or more.

    >>> spread([1.0, 2.0], 1), spread([3.0], 2)
    ('1.5 ± 0.7', '3.00')
    """
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{deviation}"


def main(arguments: Sequence[str] | None = None) -> dict[Point, list[dict[str, float]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run directory of the pipeline")
    parser.add_argument("--out", type=Path, required=True, help="where the trainings go")
    parser.add_argument("--label", required=True, help="what z_textual should not tell")
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of Stage 1, in place of its file's")
    parser.add_argument("--share", type=float, default=1.0, help="of the training utterances")
    options: Any = parser.parse_args(arguments)
    manifest = options.run / "manifest.jsonl"
    if options.share < 1:  # beside the run's own, for a feature store knows its audio by paths from there
        utterances = keep_share(read_manifest(manifest), options.share)
        manifest = options.run / f"manifest_{options.share:g}.jsonl"
        write_manifest(manifest, utterances)
    data = ["--data.manifest", str(manifest), "--data.store", str(options.run / "features")]
    wanted = [point for point in points() if point.family in options.families]
    results: dict[Point, list[dict[str, float]]] = {point: [] for point in wanted}
    for seed in options.seeds:
        for point in wanted:
            results[point].append(measure(point, seed, options.out, data, options.label, options.epochs))
    Console().print(show(results, options.label))
    return results


if __name__ == "__main__":
    main()
