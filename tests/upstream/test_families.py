"""Every family's features against the published model's own output on the clip alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import VARIANTS
from torch import Tensor

from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder
from disentangle_lightning.upstream.families import FAMILIES

Make = Callable[..., Path]
SAMPLES = 7_777


def speech_like(clips: int, samples: int) -> Tensor:
    """Random walks, with an offset and a loudness of their own, so that normalisation matters."""
    generator = torch.Generator().manual_seed(samples)
    noise = torch.randn(clips, samples, generator=generator)
    smooth = torch.nn.functional.avg_pool1d(noise[:, None], 5, 1, 2)[:, 0]
    loudness = torch.linspace(0.1, 0.4, clips)[:, None]
    return smooth * loudness + 0.05


def published(folder: Path, waveform: Tensor) -> tuple[list[Tensor], Tensor]:
    """The blocks' outputs [T, dim] and the last hidden state of the published model, run on one clip."""
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    encoder = model.encoder if model.config.is_encoder_decoder else model
    with torch.no_grad():
        output = encoder(**inputs, output_hidden_states=True)
    return [state[0] for state in output.hidden_states[1:]], output.last_hidden_state[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gradient_flows_back_to_the_input_and_each_frame_has_its_steps(variant: str, make_checkpoint: Make) -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint(variant)))
    waveforms = speech_like(2, SAMPLES)
    frames = encoder.frames(SAMPLES)
    inputs = encoder.family.inputs(waveforms).requires_grad_()
    features = encoder.hidden_states(inputs, frames)
    torch.testing.assert_close(features, encoder(waveforms))
    # Not the plain sum: that of a normalised vector is constant.
    features.square().sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0
    steps = inputs.shape[encoder.family.time_axis]
    assert frames * encoder.family.steps_per_frame <= steps
    duration = encoder.maximum_samples or SAMPLES
    hop = duration / steps * encoder.family.steps_per_frame  # but for what is left over at the end
    assert hop == pytest.approx(encoder.family.samples_per_frame, rel=2 / frames)


def test_every_supported_family_has_a_tiny_checkpoint_here() -> None:
    assert {name.removesuffix("-stable") for name in VARIANTS} == set(FAMILIES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_of_a_batch_are_those_of_the_published_model_on_each_clip_alone(
    variant: str, make_checkpoint: Make
) -> None:
    folder = make_checkpoint(variant)
    encoder = FrozenSpeechEncoder.from_pretrained(str(folder))
    waveforms = speech_like(3, SAMPLES)
    features = encoder(waveforms)

    assert features.shape == (3, encoder.frames(SAMPLES), 3, 32)
    assert features.dtype == torch.float32
    assert (encoder.num_layers, encoder.dim) == (3, 32)
    for clip, waveform in zip(features, waveforms, strict=True):
        blocks, last = published(folder, waveform)
        if variant == "sew":
            blocks = [block.repeat_interleave(2, dim=0) for block in blocks]
        # Whisper as published goes on over its window's silence, Wav2Vec2-BERT over half a frame of padding.
        frames = encoder.frames(SAMPLES)
        assert 0 <= len(last) - frames <= {"whisper": 100, "wav2vec2-bert": 1}.get(variant, 0)
        for layer, block in enumerate([*blocks[:-1], last]):
            torch.testing.assert_close(clip[:, layer], block[:frames], rtol=1e-3, atol=2e-4)


def test_clips_that_differ_only_in_loudness_differ_without_normalisation_and_agree_with_it(
    make_checkpoint: Make,
) -> None:
    waveform = speech_like(1, SAMPLES)
    for variant, agrees in (("wav2vec2", True), ("unispeech", False)):
        encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint(variant)))
        same = torch.allclose(encoder(waveform), encoder(3 * waveform + 0.2), atol=1e-3)
        assert same is agrees, variant


@pytest.mark.parametrize("variant", ["wav2vec2-stable", "hubert-stable", "wavlm-stable", "unispeech-sat"])
def test_last_layer_is_after_the_final_layer_norm(variant: str, make_checkpoint: Make) -> None:
    folder = make_checkpoint(variant)
    waveform = speech_like(1, SAMPLES)
    encoder = FrozenSpeechEncoder.from_pretrained(str(folder))
    last = encoder(waveform)[0, :, -1]
    before_norm = published(folder, waveform[0])[0][-1]

    torch.testing.assert_close(last, encoder.encoder.encoder.layer_norm(before_norm), rtol=1e-3, atol=2e-4)
    assert not torch.allclose(last, before_norm, atol=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_frames_are_exact_and_minimum_samples_is_the_shortest_clip(variant: str, make_checkpoint: Make) -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint(variant)))
    shortest, hop = encoder.minimum_samples, encoder.family.samples_per_frame
    lengths = [
        shortest,
        shortest + 1,
        *(shortest + frames * hop + off for frames in (1, 2, 7) for off in (-1, 0, 1)),
    ]
    for samples in lengths:
        features = encoder(speech_like(1, samples))
        assert features.shape[1] == encoder.frames(samples) >= 1, samples
        assert features.isfinite().all(), samples

    assert encoder.frames(shortest - 1) == 0
    with pytest.raises(UserError, match=f"needs {shortest}: leave it out of the manifest"):
        encoder(torch.zeros(1, shortest - 1))


def test_frame_grids_of_the_published_sizes() -> None:
    import transformers

    def family(name: str):
        cls = FAMILIES[name]
        config = getattr(transformers, cls.model_class).config_class()
        return cls(config, cls.default_extractor(config))

    wav2vec2 = family("wav2vec2")
    assert (wav2vec2.minimum_samples, wav2vec2.frames(399), wav2vec2.frames(16_000)) == (400, 0, 49)
    moonshine = family("moonshine")
    assert (moonshine.minimum_samples, moonshine.samples_per_frame, moonshine.frames(16_000)) == (
        895,
        384,
        40,
    )
    whisper = family("whisper")
    assert (whisper.maximum_samples, whisper.frames(320), whisper.frames(321)) == (480_000, 1, 2)
    bert = family("wav2vec2-bert")
    assert (bert.minimum_samples, bert.samples_per_frame, bert.frames(16_000)) == (560, 320, 49)
    sew = family("sew")
    assert (sew.samples_per_frame, sew.frames(sew.minimum_samples)) == (320, 2)


@pytest.mark.parametrize("frames", [8, 9])
def test_sew_layers_share_the_frame_grid_of_the_last_hidden_state(frames: int, make_checkpoint: Make) -> None:
    folder = make_checkpoint("sew")
    encoder = FrozenSpeechEncoder.from_pretrained(str(folder))
    waveform = speech_like(1, encoder.family.shortest_clip(frames))
    features = encoder(waveform)[0]
    blocks, last = published(folder, waveform[0])

    assert (len(features), len(last), len(blocks[0])) == (frames, frames, 4)
    torch.testing.assert_close(features[0:8:2, 0], blocks[0])
    torch.testing.assert_close(features[1:8:2, 0], blocks[0])
    torch.testing.assert_close(features[:, -1], last)
    if frames == 9:
        torch.testing.assert_close(features[8, 0], blocks[0][-1])
        assert not features[8, -1].any()


@pytest.mark.parametrize("variant", ["wav2vec2", "wav2vec2-bert"])
def test_a_length_adapter_behind_the_encoder_is_left_out(variant: str, make_checkpoint: Make) -> None:
    folder = make_checkpoint(variant, add_adapter=True, num_adapter_layers=1, output_hidden_size=32)
    encoder = FrozenSpeechEncoder.from_pretrained(str(folder))
    waveform = speech_like(1, SAMPLES)
    blocks, adapted = published(folder, waveform[0])

    assert len(adapted) < encoder.frames(SAMPLES)
    features = encoder(waveform)[0]
    torch.testing.assert_close(features[:, -1], blocks[-1][: len(features)], rtol=1e-3, atol=2e-4)


def test_a_clip_longer_than_the_window_of_whisper_is_refused(make_checkpoint: Make) -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("whisper")))
    assert encoder.maximum_samples == 32_000
    assert encoder(torch.randn(1, 32_000)).shape[1] == 100
    with pytest.raises(UserError, match=r"2\.00006 s .* window of 2 s: cut it with start and duration"):
        encoder(torch.randn(1, 32_001))


def test_a_shorter_window_keeps_the_positions_of_its_frames(make_checkpoint: Make) -> None:
    folder = str(make_checkpoint("whisper"))
    whole = FrozenSpeechEncoder.from_pretrained(folder)
    short = FrozenSpeechEncoder.from_pretrained(folder, window_seconds=0.5)

    assert (short.maximum_samples, short.identity["window_seconds"]) == (8_000, 0.5)
    assert short.identity["fingerprint"] == whole.identity["fingerprint"]
    positions = short.encoder.embed_positions.weight
    torch.testing.assert_close(positions, whole.encoder.embed_positions.weight[:25])
    assert not positions.requires_grad


def test_a_shorter_window_is_the_published_model_on_log_mel_cut_to_it(make_checkpoint: Make) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    folder = make_checkpoint("whisper")
    waveforms = speech_like(2, 5_000)
    features = FrozenSpeechEncoder.from_pretrained(str(folder), window_seconds=0.5)(waveforms)

    reference = WhisperModel.from_pretrained(folder).eval().encoder
    reference.embed_positions.weight.data = reference.embed_positions.weight.data[:25]
    reference.embed_positions.num_embeddings = 25
    reference.config.max_source_positions = 25
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    log_mel = extractor(waveforms.numpy(), sampling_rate=16_000, return_tensors="pt").input_features[:, :, :50]
    with torch.no_grad():
        output = reference(log_mel, output_hidden_states=True)
    expected = torch.stack([*output.hidden_states[1:-1], output.last_hidden_state], dim=2)[:, :16]
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("seconds", [0.0, 2.5])
def test_a_window_that_the_encoder_does_not_have_is_refused(seconds: float, make_checkpoint: Make) -> None:
    with pytest.raises(UserError, match="can last up to 2 s"):
        FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("whisper")), window_seconds=seconds)


def test_a_window_for_a_family_without_one_is_refused(make_checkpoint: Make) -> None:
    with pytest.raises(UserError, match="window_seconds is for Whisper"):
        FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("wav2vec2")), window_seconds=5)
