"""One training of a run: the settings of its kind, and what the run decides for each."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from disentangle_lightning.settings import StageSettings
from disentangle_lightning.settings_files import set_field, write_yaml
from disentangle_lightning.tasks.no_bottleneck import NO_BOTTLENECK


@dataclass(frozen=True)
class StageTraining:
    """What all trainings of a run have in common.

    Attributes:
        manifest, store: the data.
        alphabet: the letters of CTC; None takes those that the transcriptions need.
    """

    manifest: Path
    store: Path
    alphabet: str | None

    def settings(
        self,
        folder: Path,
        seed: int,
        stage: StageSettings,
        labels: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A tree as `fit --config` takes it.

        Args:
            folder: the run directory of the training.
            seed: of weights, order and noise.
            stage: the settings of its kind.
            labels: what the data put on each batch; what the training is told to hide is put on its own.
            fields: {dotted name: value}, set over the rest.
        """
        tree: dict[str, Any] = json.loads(json.dumps(stage.set))
        set_field(tree, "run_dir", str(folder))
        set_field(tree, "seed_everything", seed)
        set_field(tree, "data.manifest", str(self.manifest))
        set_field(tree, "data.store", str(self.store))
        set_field(tree, "data.labels", list(labels))
        set_field(tree, "data.alphabet", self.alphabet)
        for name, value in (fields or {}).items():
            set_field(tree, name, copy.deepcopy(value))
        if hidden := hidden_labels(tree):
            set_field(tree, "data.hidden_labels", hidden)
        return tree

    def check(self, stage: StageSettings, fields: Mapping[str, Any]) -> None:
        """Refuse settings that `fit` would refuse, before there is any data to train on.

        Raises:
            UserError: a field is unknown, or its value does not fit.
        """
        from disentangle_lightning.tasks.training import check_settings

        with TemporaryDirectory() as folder:
            file = Path(folder, "settings.yaml")
            write_yaml(file, self.settings(Path(folder), 0, stage, (), fields))
            check_settings(["fit", "--config", str(file)])

    def fit(
        self,
        folder: Path,
        seed: int,
        stage: StageSettings,
        labels: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
    ) -> Path:
        """`fit`, unless its figures are there already; one that was interrupted goes on. Returns its best checkpoint.

        With the schedule "within" and no control named, that is trained first, in `control/` beside the folder: the
        same stage with the same settings and no bottleneck.

        Args: see `settings`.

        Raises:
            UserError: as `fit`.
        """
        if not (folder / "summary.json").exists():
            from disentangle_lightning.tasks.training import train

            tree = self.settings(folder, seed, stage, labels, fields)
            arguments = tree.get("model", {}).get("init_args", {})
            if arguments.get("schedule") == "within" and arguments.get("control") is None:
                arguments["control"] = str(folder.parent / "control" / folder.name)
                without = {f"model.init_args.{name}": value for name, value in NO_BOTTLENECK.items()}
                self.fit(Path(arguments["control"]), seed, stage, labels, dict(fields or {}) | without)
            write_yaml(folder / "settings.yaml", tree)
            train(["fit", "--config", str(folder / "settings.yaml")])
        return folder / "checkpoints" / "best.ckpt"


def read_layers(stage: StageSettings) -> list[int] | None:
    """The layers that a training reads of the store; None means all."""
    layers: list[int] | None = stage.set.get("data", {}).get("layers")
    return layers


def hidden_labels(tree: Mapping[str, Any]) -> list[str]:
    """What the settings of a training tell it to hide."""
    labels: list[str] = tree.get("model", {}).get("init_args", {}).get("hide", [])
    return labels
