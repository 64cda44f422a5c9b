"""What the two stages learn, what they leave alone, and which checkpoints they refuse."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import ALPHABET, Payload, Planted, run_fit, weights_of
from torch import Tensor

from disentangle_lightning.corpus.manifest import read_manifest, write_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.vib_stage import VIBStage


def joined(batches: list[FrameBatch]) -> FrameBatch:
    """One batch of the utterances of several."""
    lengths = torch.cat([b.segments.lengths for b in batches])
    return FrameBatch(
        features=torch.cat([b.features for b in batches]),
        segments=Segments.from_lengths(lengths, int(lengths.sum()), int(lengths.max())),
        ids=[id for b in batches for id in b.ids],
        targets=torch.cat([b.targets for b in batches]),
        target_lengths=torch.cat([b.target_lengths for b in batches]),
        labels={name: torch.cat([b.labels[name] for b in batches]) for name in batches[0].labels},
        transcriptions=[text for b in batches for text in b.transcriptions],
    )


def loss_of(module: VIBStage, batch: FrameBatch) -> Tensor:
    """The loss without noise, at beta 0.3."""
    posterior = module.latent_encoder(batch.features)
    terms = module.terms(batch, module.logits(batch, posterior.mean), posterior)
    return terms["task"] / terms["task_weight"] + 0.3 * terms["kl"] / terms["frames"]


def test_results(module: VIBStage, data: FrameFeatureDataModule, folder: Path) -> dict[str, float]:
    trainer = run_fit(module, data, folder, epochs=0)
    trainer.test(module, datamodule=data, verbose=False)
    figures: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return figures


test_results.__test__ = False  # type: ignore[attr-defined]


def test_stage_1_learns_to_transcribe(planted: Planted, stage1_checkpoint: str, tmp_path: Path) -> None:
    data = planted.data()
    torch.manual_seed(0)
    before = test_results(Stage1VIB(data.inputs, latent_dim=6), data, tmp_path)
    after = test_results(load_task(stage1_checkpoint, Stage1VIB), data, tmp_path)
    assert before["stage1.wer"] >= 0.9
    assert after["stage1.wer"] < 0.1
    assert after["stage1.cer"] < 0.05


def test_stage_1_looks_where_the_letters_are_and_drops_the_emotion(planted: Planted, stage1_checkpoint: str) -> None:
    data = planted.data()
    stage1 = load_task(stage1_checkpoint, Stage1VIB)
    assert stage1.layer_weights()["weights"][0] > 0.6
    batch = joined(list(data.test_dataloader()))
    latents = stage1.latent_encoder(batch.features).mean.detach()
    sad = batch.labels["emotion"][batch.segments.index] == 1
    spread = latents.std(0)
    assert bool(((latents[sad].mean(0) - latents[~sad].mean(0)).abs() < 0.3 * spread).all())


def test_stage_2_learns_its_task(planted: Planted, stage2_checkpoint: str, tmp_path: Path) -> None:
    data = planted.data()
    figures = test_results(load_task(stage2_checkpoint, Stage2ConditionalVIB), data, tmp_path)
    assert figures["stage2_emotion.accuracy"] > 0.95
    assert figures["stage2_emotion.chance"] == 0.5
    assert figures["stage2_emotion.leakage"] > 0.9


def test_the_reported_rate_is_the_kl_of_the_test_frames(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path
) -> None:
    data = planted.data()
    stage1 = load_task(stage1_checkpoint, Stage1VIB)
    figures = test_results(stage1, data, tmp_path)
    kl = stage1.latent_encoder(joined(list(data.test_dataloader())).features).kl().detach().mean(0)
    assert figures["stage1.kl_nats_per_frame"] == pytest.approx(float(kl.sum()), rel=1e-4)
    assert figures["stage1.rate_bits_per_second"] == pytest.approx(float(kl.sum()) * 50 / math.log(2), rel=1e-4)
    assert figures["stage1.active_dimensions"] == int((kl > 0.01).sum()) > 1


def test_stage_1_stays_frozen_inside_stage_2(planted: Planted, stage1_checkpoint: str, tmp_path: Path) -> None:
    data = planted.data()
    stage2 = Stage2ConditionalVIB(data.inputs, "emotion", stage1_checkpoint, latent_dim=4, learning_rate=0.01)
    before = weights_of(stage2)
    run_fit(stage2, data, tmp_path, epochs=2)
    stage2.train()
    assert not any(module.training for module in stage2.stage1.modules())
    assert all(p.grad is None and not p.requires_grad for p in stage2.stage1.parameters())
    after = weights_of(stage2)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("stage1.") for name in changed)
    assert changed == {name for name, parameter in stage2.named_parameters() if parameter.requires_grad}


def test_a_checkpoint_of_stage_2_needs_no_other_file(planted: Planted, stage1_checkpoint: str, tmp_path: Path) -> None:
    data = planted.data()
    copied = tmp_path / "stage1.ckpt"
    copied.write_bytes(Path(stage1_checkpoint).read_bytes())
    stage2 = Stage2ConditionalVIB(data.inputs, "emotion", str(copied), latent_dim=4)
    run_fit(stage2, data, tmp_path, epochs=1)
    copied.unlink()
    loaded = load_task(tmp_path / "last.ckpt", Stage2ConditionalVIB)
    stage2.eval()
    for batch in data.test_dataloader():
        for one, other in zip(
            stage2.predict_step(batch, 0)["frames"].values(),
            loaded.predict_step(batch, 0)["frames"].values(),
            strict=True,
        ):
            assert torch.equal(one, other)


@pytest.mark.parametrize("stage", ["stage1_checkpoint", "stage2_checkpoint"])
def test_the_loss_in_nats_is_that_of_the_frames_whatever_the_batches(
    planted: Planted, stage: str, request: pytest.FixtureRequest
) -> None:
    kind = Stage1VIB if stage == "stage1_checkpoint" else Stage2ConditionalVIB
    module: VIBStage = load_task(request.getfixturevalue(stage), kind)
    batches = list(planted.data().test_dataloader())
    whole = loss_of(module, joined(batches))
    torch.testing.assert_close(loss_of(module, joined(batches + batches)), whole)
    frames = torch.tensor([float(b.features.shape[0]) for b in batches])
    losses = torch.stack([loss_of(module, b) for b in batches])
    torch.testing.assert_close((losses * frames).sum() / frames.sum(), whole)


def test_selection_is_by_the_loss_at_the_final_beta(planted: Planted, tmp_path: Path) -> None:
    data = planted.data()
    module = Stage1VIB(data.inputs, latent_dim=4, beta=0.5, schedule="warmup")
    figures = run_fit(module, data, tmp_path, epochs=1, log_every_n_steps=1).callback_metrics
    module.eval()
    batch = joined(list(data.val_dataloader()))
    posterior = module.latent_encoder(batch.features)
    terms = module.terms(batch, module.logits(batch, posterior.mean), posterior)
    expected = terms["task"] / terms["frames"] + 0.5 * terms["kl"] / terms["frames"]
    assert float(figures["train/beta"]) < 0.5
    assert float(figures["dev/objective"]) == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("units", ["nats", "paper"])
def test_an_utterance_too_short_for_its_letters_is_counted_and_harms_nothing(
    planted: Planted, tmp_path: Path, units: Any
) -> None:
    impossible = {"train00", "train01", "dev00", "test00", "test01", "test02"}
    utterances = [
        replace(u, transcription=ALPHABET * 30) if u.id in impossible else u for u in read_manifest(planted.manifest)
    ]
    manifest = Path(planted.manifest).with_name(f"impossible_{units}.jsonl")
    write_manifest(manifest, utterances)
    data = Planted(str(manifest), planted.store).data(max_utterances=1)
    module = Stage1VIB(data.inputs, latent_dim=4, units=units)
    trainer = run_fit(module, data, tmp_path, epochs=2)
    assert all(bool(value.isfinite().all()) for value in weights_of(module).values())
    assert all(map(math.isfinite, trainer.callback_metrics.values()))
    trainer.test(module, datamodule=data, verbose=False)
    assert json.loads((tmp_path / "summary.json").read_text())["stage1.infeasible"] == 3


def test_the_deterministic_control_pays_nothing_and_draws_nothing(planted: Planted, tmp_path: Path) -> None:
    data = planted.data()
    module = Stage1VIB(data.inputs, latent_dim=4, deterministic=True, beta=100.0, schedule="fixed")
    trainer = run_fit(module, data, tmp_path, epochs=1, log_every_n_steps=1)
    assert float(trainer.callback_metrics["train/kl_nats_per_frame"]) == 0
    assert trainer.callback_metrics["train/loss"] == trainer.callback_metrics["train/task"]
    trainer.test(module, datamodule=data, verbose=False)
    assert json.loads((tmp_path / "summary.json").read_text())["stage1.rate_bits_per_second"] == 0
    module.train()
    posterior = module.latent_encoder(next(iter(data.test_dataloader())).features)
    assert torch.equal(module.latent_encoder.latent(posterior), posterior.mean)


def test_the_noise_of_a_step_depends_on_its_place_alone(planted: Planted, tmp_path: Path) -> None:
    def draws(seed: int, disturb: bool) -> list[float]:
        drawn: list[float] = []
        data = planted.data()
        torch.manual_seed(0)
        module = Stage1VIB(data.inputs, latent_dim=4)
        own_step = module.training_step

        def step(batch: FrameBatch, batch_idx: int) -> Tensor:
            drawn.append(float(torch.rand(())))
            torch.rand(7 if disturb else 0)
            return own_step(batch, batch_idx)

        module.training_step = step  # type: ignore[method-assign]
        torch.manual_seed(seed)
        run_fit(module, data, tmp_path, epochs=2)
        return drawn

    plain = draws(0, disturb=False)
    assert draws(0, disturb=True) == plain
    assert len(set(plain)) == len(plain)
    assert not set(draws(1, disturb=False)) & set(plain)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_forged_checkpoint_is_refused_and_never_run(tmp_path: Path, legacy: bool) -> None:
    forged, trace = tmp_path / "forged.ckpt", tmp_path / "trace"
    content = {"disentangle_lightning": "Stage1VIB", "hyper_parameters": {"inputs": Payload(trace)}}
    if legacy:
        forged.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, forged)
    with pytest.raises(UserError, match="no checkpoint at all" if legacy else "could run code") as error:
        load_task(forged, Stage1VIB)
    assert "\n" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_in_one_sentence(
    stage1_checkpoint: str, tmp_path: Path, share: float
) -> None:
    whole = Path(stage1_checkpoint).read_bytes()
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"damaged\.ckpt is") as error:
        load_task(damaged, Stage1VIB)
    assert "\n" not in str(error.value)


def test_a_checkpoint_with_a_flipped_byte_is_never_loaded_as_if_whole(stage1_checkpoint: str, tmp_path: Path) -> None:
    whole = np.frombuffer(Path(stage1_checkpoint).read_bytes(), dtype=np.uint8)
    weights = weights_of(load_task(stage1_checkpoint, Stage1VIB))
    damaged = tmp_path / "damaged.ckpt"
    for place in np.linspace(0, len(whole) - 1, 60).astype(int):
        content = whole.copy()
        content[place] ^= 0x10
        damaged.write_bytes(content.tobytes())
        try:
            loaded = load_task(damaged, Stage1VIB)
        except UserError:
            continue
        for name, value in weights_of(loaded).items():
            assert torch.equal(value, weights[name]), place


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(UserError, match=r"foreign\.ckpt was not written by disentangle_lightning"):
        load_task(foreign, Stage1VIB)
    foreign.write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"foreign\.ckpt is"):
        load_task(foreign, Stage1VIB)
    torch.save(torch.zeros(3), foreign)
    with pytest.raises(UserError, match="holds a Tensor, not a checkpoint"):
        load_task(foreign, Stage1VIB)
    with pytest.raises(UserError, match="does not exist"):
        load_task(tmp_path / "nothing.ckpt", Stage1VIB)


def test_a_checkpoint_of_another_kind_is_refused(
    planted: Planted, stage1_checkpoint: str, stage2_checkpoint: str
) -> None:
    inputs = planted.data().inputs
    with pytest.raises(UserError, match="holds a Stage2ConditionalVIB; a Stage1VIB is needed"):
        Stage2ConditionalVIB(inputs, "emotion", stage2_checkpoint)
    with pytest.raises(UserError, match="holds a Stage1VIB; a Stage2ConditionalVIB is needed"):
        Probe(inputs, ["emotion"], "acoustic", stage1_checkpoint)


def test_a_checkpoint_with_settings_of_another_version_is_refused(stage1_checkpoint: str, tmp_path: Path) -> None:
    content = torch.load(stage1_checkpoint, weights_only=True)
    content["hyper_parameters"]["gone_since"] = 1
    old = tmp_path / "old.ckpt"
    torch.save(content, old)
    with pytest.raises(UserError, match=r"old\.ckpt was written by another version.*gone_since"):
        load_task(old, Stage1VIB)


def test_features_of_another_encoder_or_of_other_layers_are_refused(
    replant: Callable[..., Planted], stage1_checkpoint: str
) -> None:
    other = replant(fingerprint="bbbb").data().inputs
    with pytest.raises(UserError, match=r"trained on features of encoder planted \(fingerprint aaaa\).*bbbb"):
        Stage2ConditionalVIB(other, "emotion", stage1_checkpoint)
    with pytest.raises(UserError, match=r"trained on features of encoder planted \(fingerprint aaaa\).*bbbb"):
        Probe(other, ["emotion"], "textual", stage1_checkpoint)
    with pytest.raises(UserError, match=r"trained on layers \[1, 2\]; these features have layers \[2\]"):
        Stage2ConditionalVIB(replant(layers=[2]).data().inputs, "emotion", stage1_checkpoint)


def test_a_label_that_the_data_do_not_carry_is_refused(planted: Planted, stage1_checkpoint: str) -> None:
    with pytest.raises(UserError, match=r"label 'age' is not among the data's labels \(emotion\)"):
        Stage2ConditionalVIB(planted.data().inputs, "age", stage1_checkpoint)
