"""The script that trains an encoder on: its folder holds what was learnt, and the ordinary commands take it."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers
from script_module import imported
from tiny_pipeline import EXPERIMENTS, command, finished_run

from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder
from disentangle_lightning.upstream.loading import load_checkpoint


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with imported(EXPERIMENTS / "fine_tuned_encoder" / "train.py") as module:
        yield module


def tiny_whisper(folder: Path) -> Path:
    """Two layers of 16 with a window of two seconds."""
    torch.manual_seed(0)
    blocks = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_target_positions": 8}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    # Weights as large as after training: near zero, nothing of the sound would come through the frozen convolutions.
    sizes = {"vocab_size": 8, "max_source_positions": 100, "init_std": 0.3}
    config = transformers.WhisperConfig(**blocks, **decoder, **special, **sizes)
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(chunk_length=2).save_pretrained(folder)
    return folder


def test_the_folder_is_an_encoder_that_the_commands_take_and_that_has_learnt(
    script: ModuleType, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished_run(tmp_path_factory), tmp_path / "encoder"
    monkeypatch.setattr(sys, "argv", ["train.py", str(run), "--out", str(folder), "--epochs", "1"])
    script.main()
    before, after = FrozenSpeechEncoder.from_pretrained(str(run.parent / "encoder")), load_checkpoint(str(folder))
    old, learnt = before.encoder.state_dict(), after.encoder.state_dict()
    changed = {name.split(".")[0] for name, weight in old.items() if not weight.equal(learnt.get(name, weight))}
    changed -= {"masked_spec_embed"}  # drawn anew, and part of no feature
    assert changed == {"encoder"}, "the convolutions in front stay"
    store = tmp_path / "features"
    status, errors = command(
        "encode", "--manifest", run / "manifest.jsonl", "--store", store, "--encoder", folder, "--device", "cpu"
    )
    assert status == 0, errors
    header = json.loads((store / "header.json").read_text())
    assert header["encoder"]["fingerprint"] == after.fingerprint != before.identity["fingerprint"]


def test_it_learns_to_transcribe_and_gives_the_features_that_it_was_trained_to_give(
    script: ModuleType, tmp_path: Path
) -> None:
    name = str(tiny_whisper(tmp_path / "whisper"))
    checkpoint = load_checkpoint(name)
    checkpoint.family.shorten_window(checkpoint.encoder, 0.5)
    torch.manual_seed(0)
    model = script.Transcriber(checkpoint, CTCTokenizer("AB"))
    tones = [torch.sin(pitch * torch.arange(4800)) for pitch in (0.1, 1.0)]
    clips = [script.Clip(tone, letter) for tone, letter in zip(tones, "AB", strict=True)]
    untrained = model.loss(clips).item()
    script.fit(model, clips * 16, clips, 12, 0.02, random.Random(0))
    assert model.loss(clips).item() < 0.2 * untrained

    script.save_encoder(checkpoint, name, None, tmp_path / "trained")
    encoder = FrozenSpeechEncoder.from_pretrained(str(tmp_path / "trained"))
    assert encoder.maximum_samples == 8000, "the window that it was trained with"
    logits = model.head(encoder(tones[0][None])[0, :, -1])
    model.eval()
    trained, _ = model(clips[:1])
    assert torch.allclose(logits, trained.float(), rtol=0.05, atol=0.05), "trained in bf16"
