"""A Stage 1 that was trained before, as on another corpus: what must agree, what it must not have heard, its test."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from disentangle_lightning.corpus.manifest import Utterance, read_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.settings_files import set_field, write_yaml
from disentangle_lightning.tasks.base import Inputs, check_same_features, load_task, write_json
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.training import train

TAKEN_FROM = "taken_from.json"
"""In a run's stage1 folder: where its checkpoint comes from."""

_COMPARED = ("wer", "cer", "rate_bits_per_second", "kl_nats_per_frame", "active_dimensions")
"""Figures of the corpus that it was trained on, to stand beside those of this one."""


@dataclass(frozen=True)
class GivenStage1:
    """A checkpoint of Stage 1, and how it was made.

    Attributes:
        checkpoint: the file; its run directory is the folder above `checkpoints`.
        inputs: what its data were.
        settings: the arguments of `Stage1VIB`, aside from its inputs and from what it hid: a test needs no labels.
    """

    checkpoint: Path
    inputs: Inputs
    settings: dict[str, Any]

    @classmethod
    def read(cls, checkpoint: str | Path) -> GivenStage1:
        """Read a checkpoint.

        Raises:
            UserError: see `load_task`.
        """
        stage = load_task(checkpoint, Stage1VIB)
        settings = {name: value for name, value in stage.hparams.items() if name not in ("inputs", "hide")}
        return cls(Path(checkpoint), stage.inputs, settings)

    @property
    def alphabet(self) -> str:
        """The letters that it reads, and so those of all that is made with it."""
        return self.inputs["alphabet"]

    def check_features(self, header: dict[str, Any], layers: Sequence[int] | None) -> None:
        """Refuse features other than those it was trained on.

        Args:
            header: of the feature store.
            layers: those that are read of it; None means all.

        Raises:
            UserError: see `check_same_features`.
        """
        here = {"feature_header": header | ({} if layers is None else {"layers": list(layers)})}
        check_same_features(cast(Inputs, here), self.inputs, f"Stage 1 ({self.checkpoint})")

    def check_unheard(self, utterances: Sequence[Utterance]) -> bool:
        """Refuse utterances of probe, dev or test on which it was trained: their figures would be of no new speech.

        Returns:
            Whether it is known what it was trained on: its run directory and that run's manifest are still there.

        Raises:
            UserError: naming the first such utterance.
        """
        config = self.checkpoint.parent.parent / "config.yaml"
        if not config.is_file():
            return False
        data = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
        if not Path(data["manifest"]).is_file():
            return False
        trained = [u for u in read_manifest(data["manifest"]) if u.split == data["train_split"]]
        heard = {(u.audio, u.start) for u in trained}
        for u in utterances:
            if u.split != "train" and (u.audio, u.start) in heard:
                raise UserError(
                    f"field 'stage1.checkpoint': {self.checkpoint} was trained on utterance '{u.id}', which is of "
                    f"split '{u.split}' here; read the corpus with ManifestFile from {data['manifest']}, so that "
                    "splits stay, or train Stage 1 here"
                )
        return True

    def test(self, folder: Path, tree: dict[str, Any], known: bool) -> None:
        """Keep a copy in a run directory of `fit`, and test it on this corpus.

        Args:
            folder: the run directory; it gets checkpoints/best.ckpt, taken_from.json, and what a test writes.
            tree: settings as for `fit`: data, trainer and run_dir count.
            known: whether it is known what it was trained on.
        """
        copy = folder / "checkpoints" / "best.ckpt"
        if not copy.is_file():
            write_json(folder / TAKEN_FROM, self._origin() | {"trained_on_known": known})
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.checkpoint, copy.with_name("best.ckpt.tmp"))
            copy.with_name("best.ckpt.tmp").replace(copy)
        class_path = f"{Stage1VIB.__module__}.{Stage1VIB.__qualname__}"
        set_field(tree, "model", {"class_path": class_path, "init_args": self.settings})
        write_yaml(folder / "settings.yaml", tree)
        train(["test", "--config", str(folder / "settings.yaml"), "--ckpt_path", str(copy)])

    def _origin(self) -> dict[str, Any]:
        summary = self.checkpoint.parent.parent / "summary.json"
        figures = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
        return {
            "checkpoint": str(self.checkpoint),
            "sha256": hashlib.sha256(self.checkpoint.read_bytes()).hexdigest(),
            "manifest_sha256": self.inputs["feature_header"]["manifest_sha256"],
            "figures": {name: figures[f"stage1.{name}"] for name in _COMPARED if f"stage1.{name}" in figures},
        }


def common_alphabet(named: str | None, given: Sequence[GivenStage1]) -> str | None:
    """The letters of CTC: those that every given Stage 1 reads, or where there is none, the named ones.

    Raises:
        UserError: they differ.
    """
    alphabet = given[0].alphabet if given and named is None else named
    for stage1 in given:
        if stage1.alphabet != alphabet:
            raise UserError(
                f"Stage 1 ({stage1.checkpoint}) reads the alphabet {stage1.alphabet}, not {alphabet}; leave field "
                "'alphabet' out, and give every seed a Stage 1 of the same letters"
            )
    return alphabet


def origin_figures(folder: Path) -> dict[str, float]:
    """`stage1.training_corpus.wer` and its kin, where the Stage 1 of a run directory was trained elsewhere."""
    file = folder / TAKEN_FROM
    if not file.is_file():
        return {}
    figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
    return {f"stage1.training_corpus.{name}": value for name, value in figures.items()}
