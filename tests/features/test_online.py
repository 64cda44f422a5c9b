"""Without a store, batches are what a float32 store would give: to the bit, if that was encoded clip by clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch import Trainer
from noise_corpus import write_corpus

from disentangle_lightning.corpus.audio import load_utterance, utterance_samples
from disentangle_lightning.corpus.manifest import Utterance, read_manifest, write_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.extract import encode
from disentangle_lightning.features.job import load_encoder
from disentangle_lightning.tasks.stage1 import Stage1VIB

SAMPLES = [4000, 6400, 4000, 5000, 5600, 8000, 4800, 4001, 7000, 6400]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(manifest, float32 store by the embedded encoder)."""
    folder = tmp_path_factory.mktemp("online")
    manifest = write_corpus(folder, SAMPLES)
    encoder = load_encoder("embedded", None, "fp32", None)
    encode(manifest, encoder, folder / "store", dtype="float32", batch_seconds=0.1)
    return str(manifest), str(folder / "store")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("layers", [None, [1, 3]])
def test_batches_are_those_of_a_float32_store(spoken, workers, layers):
    manifest, store = spoken
    settings = {"labels": ["speaker"], "max_frames": 60, "layers": layers, "seed": 3}
    stored = FrameFeatureDataModule(manifest, store, **settings)
    online = FrameFeatureDataModule(manifest, None, encoder="embedded", num_workers=workers, **settings)
    assert online.inputs == stored.inputs
    for make in ("train_dataloader", "val_dataloader", "test_dataloader"):
        batches = list(zip(getattr(online, make)(), getattr(stored, make)(), strict=True))
        assert batches
        for ours, theirs in batches:
            assert ours.ids == theirs.ids
            assert torch.equal(ours.features, theirs.features)
            assert ours.features.transpose(0, 1).is_contiguous()
            assert torch.equal(ours.segments.lengths, theirs.segments.lengths)
            assert ours.transcriptions == theirs.transcriptions
            assert torch.equal(ours.labels["speaker"], theirs.labels["speaker"])


def test_a_stage_trains_without_a_store_as_with_one(spoken, tmp_path):
    manifest, store = spoken

    def weights(data: FrameFeatureDataModule) -> torch.Tensor:
        torch.manual_seed(0)
        stage = Stage1VIB(data.inputs, latent_dim=4)
        trainer = Trainer(
            default_root_dir=tmp_path,
            accelerator="cpu",
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(stage, datamodule=data)
        return torch.cat([parameter.detach().flatten() for parameter in stage.parameters()])

    online = weights(FrameFeatureDataModule(manifest, None, [], encoder="embedded", max_frames=40))
    torch.testing.assert_close(online, weights(FrameFeatureDataModule(manifest, store, [], max_frames=40)))


def test_what_headers_tell_is_left_out_and_what_only_decoding_shows_names_its_file(tmp_path):
    manifest = write_corpus(tmp_path, SAMPLES)
    (tmp_path / "clip000.wav").unlink()
    (tmp_path / "clip001.wav").write_text("this is no audio")
    soundfile.write(tmp_path / "clip005.wav", np.full(10, 0.5), 16_000)
    soundfile.write(tmp_path / "clip004.wav", np.zeros(5600), 16_000)
    data = FrameFeatureDataModule(str(manifest), None, [], encoder="embedded")
    assert data.skipped == 3
    assert [id for batch in data.train_dataloader() for id in batch.ids] == ["u006"]
    with pytest.raises(UserError, match=r"clip004.wav is silent"):
        list(data.test_dataloader())
    soundfile.write(tmp_path / "clip004.wav", np.full(3000, 0.5), 16_000)
    with pytest.raises(UserError, match=r"clip004.wav gives \d+ frames, but its header announced \d+"):
        list(data.test_dataloader())


def test_a_corpus_of_which_nothing_can_be_encoded_is_an_error(tmp_path):
    manifest = write_corpus(tmp_path, [20, 30])
    with pytest.raises(UserError, match=r"none of the 2 utterances .* 'u000': 20 samples"):
        FrameFeatureDataModule(str(manifest), None, [], encoder="embedded")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give one of store .* and encoder"),
        ({"store": "store", "encoder": "embedded"}, "give one of store .* and encoder .* not both"),
        ({"store": "store", "precision": "bf16"}, "belong to encoder; leave them out with a store"),
        ({"store": "store", "window_seconds": 5.0}, "belong to encoder; leave them out with a store"),
        ({"encoder": "embedded", "residency": "host"}, "residency is 'host', but with encoder nothing is kept"),
        ({"encoder": "embedded", "layers": [9]}, r"layers is \[9\]; this encoder has layers 1 to"),
        ({"encoder": "./nowhere"}, "encoder folder ./nowhere does not exist"),
        ({"encoder": "embedded", "num_workers": -1}, "num_workers is -1; it must be 0 or more"),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(spoken, settings, message):
    with pytest.raises(UserError, match=message) as refusal:
        FrameFeatureDataModule(spoken[0], **{"store": None, "labels": []} | settings)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
def test_the_length_that_a_header_tells_is_the_length_that_decoding_gives(tmp_path: Path, rate: int):
    rng = np.random.default_rng(rate)
    utterances = []
    for i, samples in enumerate(rng.integers(rate // 50, 3 * rate, 12).tolist()):
        file = tmp_path / f"{i}.wav"
        soundfile.write(file, rng.uniform(-0.5, 0.5, samples), rate)
        utterances.append(Utterance(str(i), file))
        seconds = samples / rate
        utterances.append(Utterance(f"{i}cut", file, start=seconds / 3, duration=seconds / 2))
        utterances.append(Utterance(f"{i}end", file, start=seconds / 3, duration=seconds * 2 / 3 + 1e-3))
    for utterance in utterances:
        assert utterance_samples(utterance) == len(load_utterance(utterance)), utterance


def test_a_cut_that_begins_after_the_end_is_left_out(tmp_path):
    manifest = write_corpus(tmp_path, SAMPLES)
    utterances = read_manifest(manifest)
    write_manifest(manifest, [replace(u, start=9.0) if u.id == "u001" else u for u in utterances])
    assert FrameFeatureDataModule(str(manifest), None, [], encoder="embedded").skipped == 1
