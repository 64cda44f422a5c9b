"""Frozen in every sense, in either precision, and the real Whisper on real speech."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import VARIANTS
from torch import Tensor

from disentangle_lightning.corpus.audio import load_audio
from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder, Precision
from disentangle_lightning.upstream.loading import EMBEDDED, load_checkpoint

Make = Callable[..., Path]
SHARED = Path(__file__).resolve().parents[3] / "shared"
WHISPER = SHARED / "encoders" / "whisper-tiny.en-encoder"
REAL_SPEECH = SHARED / "real_speech" / "fsdd" / "test"

needs_real_whisper = pytest.mark.skipif(
    not (WHISPER.is_dir() and REAL_SPEECH.is_dir()),
    reason="shared/ with the real encoder and speech is not here",
)


def test_importing_the_package_does_not_import_transformers() -> None:
    code = "import sys, disentangle_lightning.upstream.encoder; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_a_parent_module_leaves_the_encoder_frozen(make_checkpoint: Make) -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("wav2vec2")))
    waveforms = torch.randn(1, 4_000)
    before = encoder(waveforms)
    parent = torch.nn.Sequential(encoder).train()

    assert parent.training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder(waveforms), before)


def test_a_layer_mixer_can_learn_from_the_features(make_checkpoint: Make) -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("wav2vec2")))
    waveforms = torch.randn(1, 4_000, requires_grad=True)
    weights = torch.zeros(encoder.num_layers, requires_grad=True)
    (encoder(waveforms) * weights[:, None]).square().sum().add(weights.sum()).backward()

    assert weights.grad is not None
    assert waveforms.grad is None


def test_bf16_is_close_to_fp32_and_returns_float32(make_checkpoint: Make) -> None:
    # Sixteen channels a group: with eight, fewer than any published encoder has, oneDNN's AMX kernels are off by 100 %.
    folder = str(make_checkpoint("wav2vec2-stable", num_conv_pos_embedding_groups=2))
    waveforms = torch.randn(2, 8_000)
    exact = FrozenSpeechEncoder.from_pretrained(folder)(waveforms)
    rounded = FrozenSpeechEncoder.from_pretrained(folder, precision="bf16")(waveforms)

    assert rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert 0 < error < 0.03


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_that_were_settled_once_give_what_the_published_model_gives(
    make_checkpoint: Make, variant: str, precision: Precision
) -> None:
    folder = str(make_checkpoint(variant))
    encoder = FrozenSpeechEncoder.from_pretrained(folder, precision=precision)
    published = load_checkpoint(folder)
    waveforms = torch.randn(2, 8_000)
    inputs = published.family.inputs(waveforms)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        output = published.encoder(inputs, output_hidden_states=True)
        first = published.family.on_frame_grid(output.hidden_states[1], encoder.frames(8_000)).float()
        last = published.family.on_frame_grid(output.last_hidden_state, encoder.frames(8_000)).float()

    features = encoder(waveforms)
    assert torch.equal(features[:, :, 0], first)
    assert torch.equal(features[:, :, -1], last)
    matrices = [module.weight for module in encoder.modules() if isinstance(module, torch.nn.Linear)]
    assert {weight.dtype for weight in matrices} == {torch.bfloat16 if precision == "bf16" else torch.float32}


@pytest.mark.parametrize("variant", VARIANTS)
def test_threads_that_share_an_encoder_do_not_mix_their_features(make_checkpoint: Make, variant: str) -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint(variant)))
    clips = [torch.randn(1, 4_000 + 320 * (i % 5)) for i in range(20)]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(encoder, clips))
    assert all(torch.equal(features, encoder(clip)) for features, clip in zip(at_once, clips, strict=True))


def test_fp32_stays_fp32_within_the_autocast_of_a_trainer(make_checkpoint: Make) -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("wav2vec2")))
    waveforms = torch.randn(1, 4_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encoder(waveforms)
    assert torch.equal(inside, encoder(waveforms))


def test_an_unknown_precision_is_refused(make_checkpoint: Make) -> None:
    with pytest.raises(UserError, match="'fp16'; it can be 'fp32' or 'bf16'"):
        FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("wav2vec2")), precision="fp16")  # type: ignore[arg-type]


def test_identity_says_in_plain_types_which_encoder_this_is(make_checkpoint: Make) -> None:
    import transformers

    folder = str(make_checkpoint("moonshine"))
    identity = FrozenSpeechEncoder.from_pretrained(folder).identity
    fingerprint = identity.pop("fingerprint")

    assert isinstance(fingerprint, str)
    assert len(fingerprint) == 64
    assert identity == {
        "name": folder,
        "revision": None,
        "family": "moonshine",
        "layers": 3,
        "dim": 32,
        "frame_rate": pytest.approx(41.667, abs=1e-3),
        "window_seconds": None,
        "transformers": transformers.__version__,
    }


@needs_real_whisper
def test_half_precision_weights_of_the_real_whisper_are_computed_in_float32() -> None:
    encoder = FrozenSpeechEncoder.from_pretrained(str(WHISPER), window_seconds=5)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert (encoder.num_layers, encoder.dim, encoder.frame_rate) == (4, 384, 50.0)


@needs_real_whisper
def test_a_5_s_window_is_close_to_the_published_30_s_for_clips_that_nearly_fill_it_and_less_so_for_short_ones() -> None:
    published = FrozenSpeechEncoder.from_pretrained(str(WHISPER))
    short = FrozenSpeechEncoder.from_pretrained(str(WHISPER), window_seconds=5)

    def mean_cosine(clips: list[Tensor]) -> float:
        frames = [torch.cosine_similarity(published(c[None]), short(c[None]), dim=-1)[0] for c in clips]
        return torch.cat(frames).mean().item()

    speakers = ["george", "jackson", "lucas"]  # the first three of six, to keep the 30 s windows few
    digits = [[load_audio(REAL_SPEECH / f"{digit}_{name}_0.flac") for digit in range(10)] for name in speakers]
    nearly_full = mean_cosine([torch.cat(spoken)[: short.maximum_samples] for spoken in digits])
    half_a_second = mean_cosine([spoken[7] for spoken in digits])

    assert nearly_full > 0.99
    assert 0.96 < half_a_second < 0.99  # the limit that the docstring of `families.Whisper` states


@pytest.mark.skipif(not (EMBEDDED / "config.json").is_file(), reason="the embedded encoder is not built yet")
def test_embedded_is_the_encoder_in_the_package() -> None:
    encoder = FrozenSpeechEncoder.from_pretrained("embedded")
    assert (encoder.identity["name"], encoder.identity["family"]) == ("embedded", "wav2vec2")
    assert encoder(torch.randn(2, 16_000)).shape == (2, 49, encoder.num_layers, encoder.dim)
