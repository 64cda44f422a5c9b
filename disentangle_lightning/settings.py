"""The settings of `pipeline` and `encode`, as they stand in YAML: plain data that imports nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DEFAULT_RUN_DIR = "runs/${oc.env:WANDB_RUN_ID,local}"
"""Of `fit` and its kin; W&B agents set the variable."""


@dataclass
class EncodeSettings:
    """How a manifest becomes a feature store.

    Attributes:
        manifest: the JSONL manifest.
        store: the folder of the feature store.
        encoder: `embedded`, a hub id (facebook/wav2vec2-base), or a folder in the Hugging Face layout.
        revision: of a hub id.
        precision: what the encoder computes in, fp32 or bf16.
        window_seconds: for Whisper, a shorter window than its 30 s.
        dtype: of the stored features: float16, bfloat16, float32, or int8, with a scale per frame and layer.
        layers: which layers to keep, from 1; all where null.
        device: cpu, cuda, or auto.
        shard: null encodes all; i/n encodes the i-th of n parts, each a job of its own (in a SLURM array with
            --array=1-N: $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT); merge then makes the parts one store.
    """

    manifest: str = ""
    store: str = ""
    encoder: str = "embedded"
    revision: str | None = None
    precision: str = "fp32"
    window_seconds: float | None = None
    dtype: str = "float16"
    layers: list[int] | None = None
    device: str = "auto"
    shard: str | None = None


@dataclass
class SplitSettings:
    """Who trains, who probes, who selects, who is tested; see `corpus.splits.assign_splits`.

    Attributes:
        fractions: of the splits that the corpus does not come with.
        disjoint: what training, dev and test must not share: speaker, sentence or speaker+sentence; null lets them
            share both; auto keeps apart what can be (see `corpus.prepare.divide`).
        stratify: a label whose classes keep their share in every split.
        seed: decides who goes where.
        probe_from: whose speakers and sentences the split probe shares: those of train, or with `test` those of test,
            so that with `disjoint` probes and attackers have heard who is tested, and no stage has.
    """

    fractions: dict[str, float] = field(default_factory=lambda: {"train": 0.6, "probe": 0.15, "dev": 0.1, "test": 0.15})
    disjoint: str | None = "auto"
    stratify: str | None = None
    seed: int = 0
    probe_from: str = "train"


@dataclass
class StageSettings:
    """One training: the settings file that `fit --config` takes, and the fields to set differently.

    Attributes:
        config: a file, relative to the file that names it, or on the command line to the working directory.
        set: fields of that file, nested, that override it.
    """

    config: str | None = None
    set: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stage1Settings(StageSettings):
    """As any training, or one that has been trained elsewhere.

    Attributes:
        checkpoint: of a Stage 1, which is then tested here, not trained; `{seed}` in it stands for the seed.
    """

    checkpoint: str | None = None


@dataclass
class PipelineSettings:
    """The whole protocol.

    Attributes:
        run_dir: where everything goes.
        seeds: one training of every stage and probe for each.
        corpus: class_path and init_args of a corpus reader, or the path of a file that holds them.
        alphabet: the letters of CTC; null takes the English ones, or those that occur where English does not suffice.
        splits: how the corpus is divided where it does not come divided.
        encode: as for the verb `encode`, or the path of its file; the manifest is in the run directory, and so is the
            store, unless one is named, which several runs on the same audio then share.
        tasks: the labels for each of which a Stage 2 is trained; [] for Stage 1 alone.
        labels: the labels that every representation is probed for beside the tasks.
        quartiles: which of tasks and labels are numbers, to be cut into the classes q1 to q4 at the quartiles of the
            split train: labels whose values are numbers, or what Praat measures (see `corpus.praat.MEASURES`): pitch,
            intensity, either's deviation, jitter, shimmer, length.
        stage1: `config`, a file as `fit` takes it; `set`, the fields to override in it; or `checkpoint`, a Stage 1
            that was trained before, as on another corpus: it is tested here, and all else is made with it.
        stage2: `config` and `set`, likewise.
        probe: `config` and `set`, likewise.

    Paths of settings files are relative to the file that names them, or on the command line to the working directory;
    all other paths are relative to the working directory.
    """

    run_dir: str = "???"
    seeds: list[int] = field(default_factory=lambda: [0])
    corpus: dict[str, Any] = field(default_factory=dict)
    alphabet: str | None = None
    splits: SplitSettings = field(default_factory=SplitSettings)
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    tasks: list[str] | None = None
    labels: list[str] = field(default_factory=list)
    quartiles: list[str] = field(default_factory=list)
    stage1: Stage1Settings = field(default_factory=Stage1Settings)
    stage2: StageSettings = field(default_factory=StageSettings)
    probe: StageSettings = field(default_factory=StageSettings)
