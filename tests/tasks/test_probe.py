"""Probes find what is there, do not find what is not, and each head is as if it were trained alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from planted import Planted, run_fit
from torch import Tensor

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.nn import layer_pooling
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

LABELS = ["emotion", "speaker", "coin"]


def probe_data(planted: Planted) -> FrameFeatureDataModule:
    return planted.data(LABELS, train_split="probe")


def fit_probe(
    planted: Planted, folder: Path, targets: list[str], epochs: int = 15, callbacks: Any = None, **options: Any
) -> tuple[Probe, dict[str, float]]:
    """Train and test a probe; returns it and its figures."""
    data = probe_data(planted)
    probe = Probe(data.inputs, targets, **{"learning_rate": 0.02, "seed": 0} | options)
    trainer = run_fit(probe, data, folder, epochs, callbacks=callbacks)
    trainer.test(probe, datamodule=data, verbose=False)
    figures: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return probe, figures


def head_weights(probe: Probe, target: str) -> dict[str, Tensor]:
    return dict(probe.heads[target].state_dict())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mixer": "random"},
        {"mixer": "single", "layer": 1},
        {"head": "mlp"},
        {"query_init": "ones", "scaled_attention": False},
        {"representation": "textual"},
        {"representation": "acoustic", "head": "mlp"},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "defaults",
)
def test_targets_trained_together_end_with_the_weights_each_has_alone(
    planted: Planted, stage1_checkpoint: str, stage2_checkpoint: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    sources = {"textual": stage1_checkpoint, "acoustic": stage2_checkpoint}
    options = options | {"source": sources.get(options.get("representation", "hidden"))}
    targets = ["emotion", "ctc", "speaker", "coin"]
    together, _ = fit_probe(planted, tmp_path, targets, epochs=3, **options)
    for target in targets:
        torch.manual_seed(12345)  # another state of the global generator than before
        alone, _ = fit_probe(planted, tmp_path, [target], epochs=3, **options)
        weights, own = head_weights(together, target), head_weights(alone, target)
        assert weights.keys() == own.keys()
        for name in weights:
            assert torch.equal(weights[name], own[name]), (target, name)


def test_more_labels_than_are_read_at_once_end_with_the_weights_each_has_alone(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_pooling, "GROUP", 2)
    together, _ = fit_probe(planted, tmp_path, LABELS, epochs=3)
    for target in LABELS:
        alone, _ = fit_probe(planted, tmp_path, [target], epochs=3)
        for name, value in head_weights(alone, target).items():
            assert torch.equal(head_weights(together, target)[name], value), (target, name)


def test_the_seed_of_a_probe_changes_its_first_weights(planted: Planted) -> None:
    inputs = probe_data(planted).inputs
    one, other, again = (Probe(inputs, ["emotion"], seed=seed) for seed in (0, 1, 0))
    first = [head_weights(probe, "emotion")["classifier.weight"] for probe in (one, other, again)]
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])


def gradient_norms(probe: Probe) -> dict[str, float]:
    return {
        name: float(torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None]).norm())
        for name, head in probe.each_head()
    }


def test_each_head_is_clipped_by_its_own_norm(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[tuple[dict[str, float], dict[str, float]]] = []
    own_clipping = Probe.configure_gradient_clipping

    def clipping(self: Probe, *arguments: Any, **options: Any) -> None:
        before = gradient_norms(self)
        own_clipping(self, *arguments, **options)
        norms.append((before, gradient_norms(self)))

    monkeypatch.setattr(Probe, "configure_gradient_clipping", clipping)
    limit = 2.5
    fit_probe(planted, tmp_path, ["ctc", "coin"], epochs=2, clip_gradient=limit)
    assert any(min(before.values()) < limit < max(before.values()) for before, _ in norms)
    for before, after in norms:
        for name in before:
            assert after[name] == pytest.approx(min(limit, before[name]), rel=1e-3)


def test_the_test_is_of_each_heads_own_best_dev_epoch(planted: Planted, tmp_path: Path) -> None:
    class Spoil(Callback):
        """Ruin a head's weights after some epoch; what was best before is all that is left to restore."""

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            for name, epoch in (("emotion", 6), ("speaker", 9)):
                if trainer.current_epoch == epoch:
                    head: Any = pl_module.heads[name]
                    best[name] = {key: value.clone() for key, value in head.best.items()}
                    head.classifier.bias.data[0] = 1e6

    best: dict[str, dict[str, Tensor]] = {}
    probe, figures = fit_probe(planted, tmp_path, ["emotion", "speaker"], callbacks=[Spoil()])
    for name in ("emotion", "speaker"):
        assert figures[f"probe.hidden.{name}.accuracy"] > 0.9
        for key, value in best[name].items():
            assert torch.equal(head_weights(probe, name)[key], value)


def test_the_best_epochs_survive_a_checkpoint(planted: Planted, tmp_path: Path) -> None:
    _, figures = fit_probe(planted, tmp_path, ["emotion", "ctc"], epochs=6)
    loaded = load_task(tmp_path / "last.ckpt", Probe)
    data = probe_data(planted)
    trainer = run_fit(loaded, data, tmp_path / "again", epochs=0)
    trainer.test(loaded, datamodule=data, verbose=False)
    assert json.loads((tmp_path / "again" / "summary.json").read_text()) == figures


def test_a_probe_finds_planted_labels_in_hidden_states_and_no_random_one(planted: Planted, tmp_path: Path) -> None:
    _, figures = fit_probe(planted, tmp_path, [*LABELS, "ctc"], epochs=25)
    assert figures["probe.hidden.emotion.accuracy"] > 0.95
    assert figures["probe.hidden.speaker.accuracy"] > 0.95
    assert figures["probe.hidden.coin.accuracy"] < 0.75
    assert figures["probe.hidden.emotion.accuracy"] - figures["probe.hidden.coin.accuracy"] > 0.25
    assert figures["probe.hidden.ctc.wer"] < 0.3
    weights = json.loads((tmp_path / "layer_weights.json").read_text())
    assert weights["ctc"]["weights"][0] > 0.5 > weights["emotion"]["weights"][0]
    assert {t["id"] for t in json.loads((tmp_path / "transcripts.json").read_text())} == {
        f"test{i:02d}" for i in range(24)
    }


def test_a_probe_on_one_layer_finds_what_that_layer_says(planted: Planted, tmp_path: Path) -> None:
    accuracy = {}
    for layer in (0, 1):
        _, figures = fit_probe(planted, tmp_path, ["speaker"], mixer="single", layer=layer)
        accuracy[layer] = figures["probe.hidden.speaker.accuracy"]
    assert accuracy[1] > 0.95
    assert accuracy[0] < 0.6


def test_an_mlp_probe_finds_planted_labels_too(planted: Planted, tmp_path: Path) -> None:
    probe, figures = fit_probe(planted, tmp_path, ["emotion"], head="mlp")
    assert figures["probe.hidden.emotion.accuracy"] > 0.95
    assert head_weights(probe, "emotion")["classifier.0.weight"].shape == (16, 16)


def test_latents_say_what_their_stage_was_trained_for(
    planted: Planted, stage1_checkpoint: str, stage2_checkpoint: str, tmp_path: Path
) -> None:
    targets, options = ["ctc", "emotion"], {"epochs": 50}
    _, textual = fit_probe(planted, tmp_path, targets, representation="textual", source=stage1_checkpoint, **options)
    _, acoustic = fit_probe(planted, tmp_path, targets, representation="acoustic", source=stage2_checkpoint, **options)
    assert textual["probe.textual.ctc.wer"] < 0.3
    assert textual["probe.textual.emotion.accuracy"] < 0.7
    assert acoustic["probe.acoustic_emotion.ctc.wer"] > 0.8
    assert acoustic["probe.acoustic_emotion.emotion.accuracy"] > 0.95
    assert acoustic["probe.acoustic_emotion.emotion.leakage"] > 0.9
    assert not (tmp_path / "layer_weights.json").exists()


def test_textual_latents_are_the_same_from_stage_1_and_from_the_stage_2_around_it(
    planted: Planted, stage1_checkpoint: str, stage2_checkpoint: str, tmp_path: Path
) -> None:
    probes = [
        fit_probe(planted, tmp_path, ["speaker"], representation="textual", source=source, epochs=2)
        for source in (stage1_checkpoint, stage2_checkpoint)
    ]
    assert probes[0][1] == probes[1][1]
    for name, value in head_weights(probes[0][0], "speaker").items():
        assert torch.equal(value, head_weights(probes[1][0], "speaker")[name])


@pytest.mark.parametrize(
    ("representation", "source"), [("textual", "stage1"), ("textual", "stage2"), ("acoustic", "stage2")]
)
def test_a_probes_checkpoint_needs_no_other_file(
    planted: Planted,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    representation: Any,
    source: str,
) -> None:
    copied = tmp_path / "source.ckpt"
    copied.write_bytes(Path(request.getfixturevalue(f"{source}_checkpoint")).read_bytes())
    probe, _ = fit_probe(planted, tmp_path, ["emotion"], 1, representation=representation, source=str(copied))
    copied.unlink()
    loaded = load_task(tmp_path / "last.ckpt", Probe)
    batch = next(iter(probe_data(planted).test_dataloader()))
    assert torch.equal(probe.represent(batch), loaded.represent(batch))
    assert probe.name == loaded.name


def test_the_source_is_frozen_and_latents_are_means(planted: Planted, stage2_checkpoint: str, tmp_path: Path) -> None:
    stage2 = load_task(stage2_checkpoint, Stage2ConditionalVIB)
    probe, _ = fit_probe(planted, tmp_path, ["emotion"], 2, representation="acoustic", source=stage2_checkpoint)
    probe.train()
    batch = next(iter(probe_data(planted).test_dataloader()))
    torch.testing.assert_close(probe.represent(batch), stage2.latent_encoder(batch.features).mean)
    assert probe.source is not None
    assert not probe.source.training


def test_a_source_that_is_missing_or_not_wanted_is_refused(planted: Planted, stage1_checkpoint: str) -> None:
    inputs = probe_data(planted).inputs
    with pytest.raises(UserError, match="a probe on textual latents needs `source`"):
        Probe(inputs, ["emotion"], "textual")
    with pytest.raises(UserError, match="a probe on hidden states reads no checkpoint"):
        Probe(inputs, ["emotion"], "hidden", stage1_checkpoint)
    with pytest.raises(UserError, match="label 'age' is not among the data's labels"):
        Probe(inputs, ["age"])


def test_a_ctc_probe_takes_the_alphabet_of_its_data_not_that_of_the_stage(
    planted: Planted, stage1_checkpoint: str
) -> None:
    inputs = planted.data(LABELS, alphabet="ABCD").inputs
    probe = Probe(inputs, ["ctc"], "textual", stage1_checkpoint)
    assert head_weights(probe, "ctc")["classifier.weight"].shape[0] == 6


def test_a_label_named_like_a_method_of_pytorch_is_refused(planted: Planted) -> None:
    inputs = probe_data(planted).inputs
    inputs["label_names"] |= {"type": ["a", "b"]}
    with pytest.raises(UserError, match="label 'type' cannot be probed under this name"):
        Probe(inputs, ["type"])
