"""What Stage 1 is told to hide cannot be read from z_textual, and the words still can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import Planted, run_fit
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.nn.segments import segment_mean
from disentangle_lightning.tasks.base import load_task, read_checkpoint
from disentangle_lightning.tasks.stage1 import Stage1VIB

# So low a beta that the bottleneck keeps nothing out by itself, and both layers in equal parts.
OPEN: dict[str, Any] = {"latent_dim": 8, "dropout": 0.0, "beta": 1e-5, "mixer": "uniform", "learning_rate": 0.01}


def trained(data: FrameFeatureDataModule, folder: Path, hide: list[str], epochs: int = 40) -> tuple[Stage1VIB, float]:
    """A Stage 1 and its WER."""
    torch.manual_seed(0)
    stage1 = Stage1VIB(data.inputs, hide=hide, **OPEN)
    trainer = run_fit(stage1, data, folder, epochs=epochs)
    trainer.test(stage1, datamodule=data, verbose=False)
    return stage1.eval(), json.loads((folder / "summary.json").read_text())["stage1.wer"]


def read_emotion(stage1: Stage1VIB, planted: Planted) -> float:
    """Accuracy on dev and test of a linear reader of z_textual's means that is fitted on train and probe."""
    rows: dict[str, list[Any]] = {}
    labels: dict[str, list[int]] = {}
    for split in ("train", "probe"):
        data = planted.data(train_split=split)
        data.setup("fit")
        data.setup("test")
        loaders = {split: data.train_dataloader(), "dev": data.val_dataloader(), "test": data.test_dataloader()}
        for name, loader in loaders.items():
            rows[name], labels[name] = [], []
            for batch in loader:
                with torch.no_grad():
                    mean = stage1.latent_encoder(batch.features, batch.segments).mean
                rows[name] += segment_mean(mean, batch.segments).tolist()
                labels[name] += batch.labels["emotion"].tolist()
    reader = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    reader.fit(rows["train"] + rows["probe"], labels["train"] + labels["probe"])
    return reader.score(rows["dev"] + rows["test"], labels["dev"] + labels["test"])


def test_what_is_hidden_cannot_be_read_and_the_words_can(planted: Planted, tmp_path: Path) -> None:
    data = planted.data()
    (open_stage, open_wer), (hiding, wer) = (trained(data, tmp_path, hide) for hide in ([], ["emotion"]))
    assert read_emotion(open_stage, planted) > 0.8, "the reader finds it where it is"
    assert read_emotion(hiding, planted) < 0.72
    assert (open_wer, wer) == pytest.approx((0.07, 0.07), abs=0.07)


def test_several_labels_are_hidden_at_once(planted: Planted, tmp_path: Path) -> None:
    stage, wer = trained(planted.data(["emotion", "speaker"]), tmp_path, ["emotion", "speaker"])
    assert read_emotion(stage, planted) < 0.72
    assert wer < 0.12


def test_the_readers_of_a_training_are_in_its_checkpoint_but_not_among_its_weights(
    planted: Planted, tmp_path: Path
) -> None:
    stage, _ = trained(planted.data(), tmp_path, ["emotion"], epochs=1)
    counts = dict(stage.discriminants[0].named_buffers())["counts"]
    assert float(counts.sum()) > 25
    again = load_task(tmp_path / "last.ckpt", Stage1VIB)
    assert torch.equal(dict(again.discriminants[0].named_buffers())["counts"], counts)
    assert not [name for name in read_checkpoint(tmp_path / "last.ckpt")["state_dict"] if "discriminant" in name]


def test_a_label_that_the_data_do_not_have_is_refused(planted: Planted) -> None:
    inputs = planted.data(["emotion"]).inputs
    with pytest.raises(UserError, match="label 'speaker' is not among the data's labels"):
        Stage1VIB(inputs, hide=["speaker"])
