"""DisentangledEncoder and `disentangle`: what is deployed equals what was trained, and bad input ends well."""

from __future__ import annotations

import doctest
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
import transformers
from huggingface_hub import constants
from safetensors import safe_open
from torch import Tensor

import disentangle_lightning.encoder as encoder_module
from disentangle_lightning.corpus.audio import resample
from disentangle_lightning.deployment.output_folder import OutputFolder
from disentangle_lightning.deployment.trained_upstream import load_trained_upstream
from disentangle_lightning.deployment.waveforms import checked_waveform
from disentangle_lightning.encoder import DisentangledEncoder, disentangle
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

LAYERS = [1, 3]
LABELS = {"emotion": ["happy", "sad"], "type": ["a", "<b>", "c"]}  # "type" is an attribute of every nn.Module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_upstream(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = transformers.Wav2Vec2Config(
        num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, hidden_size=32, conv_dim=(16, 16, 16),
        conv_kernel=(10, 3, 2), conv_stride=(5, 2, 2), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
        vocab_size=8,
    )  # fmt: skip
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_upstream(tmp_path_factory.mktemp("upstream"))


def save_checkpoint(module: Stage1VIB | Stage2ConditionalVIB, path: Path) -> Path:
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path


def randomize(module: torch.nn.Module) -> None:
    """So that no query is zero and no layer weighs like another."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)


def make_stages(folder: Path, upstream: Path, seed: int = 0, tasks: dict[str, list[str]] = LABELS) -> list[Path]:
    """Checkpoints in `folder`: one Stage 1, then a Stage 2 for each task."""
    torch.manual_seed(seed)
    encoder = FrozenSpeechEncoder.from_pretrained(str(upstream))
    inputs: dict[str, Any] = {
        "num_layers": len(LAYERS),
        "feature_dim": encoder.dim,
        "alphabet": "ABC",
        "label_names": LABELS,
        "feature_header": {
            "encoder": encoder.identity,
            "precision": "fp32",
            "layers": LAYERS,
            "frame_rate": encoder.frame_rate,
        },
    }
    stage1 = Stage1VIB(inputs, latent_dim=6)
    randomize(stage1)
    paths = [save_checkpoint(stage1, folder / "stage1.ckpt")]
    for task in tasks:
        stage2 = Stage2ConditionalVIB(inputs, task, str(paths[0]), latent_dim=5)
        trained = {name: value.clone() for name, value in stage2.stage1.state_dict().items()}
        randomize(stage2)
        stage2.stage1.load_state_dict(trained)
        paths.append(save_checkpoint(stage2, folder / f"stage2_{task}.ckpt"))
    return paths


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, upstream: Path) -> list[Path]:
    return make_stages(tmp_path_factory.mktemp("checkpoints"), upstream)


@pytest.fixture(scope="session")
def encoder(checkpoints: list[Path]) -> DisentangledEncoder:
    return DisentangledEncoder.from_checkpoints(checkpoints[1:])


@pytest.fixture(scope="session")
def saved(encoder: DisentangledEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    encoder.save_pretrained(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A saved model to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def noise(samples: int, seed: int = 0) -> Tensor:
    return torch.rand(samples, generator=torch.Generator().manual_seed(seed)) - 0.5


def write_sound(path: Path, samples: int = 3000, seed: int = 0, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(samples, seed).numpy(), rate)
    return path


def tensors_of(speech: Any) -> dict[str, Tensor]:
    named = {"z_textual": speech.z_textual} | {f"z_acoustic_{t}": z for t, z in speech.z_acoustic.items()}
    for task, streams in speech.attention.items():
        named |= {f"attention_{stream}_{task}": weights for stream, weights in streams.items()}
    return named


def assert_same(one: Any, other: Any, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(tensors_of(one), tensors_of(other), rtol=tolerance, atol=tolerance)
    assert one.transcript == other.transcript
    assert one.frame_rate == other.frame_rate
    for task, (label, probability) in one.predictions.items():
        assert other.predictions[task][0] == label
        assert other.predictions[task][1] == pytest.approx(probability, abs=tolerance)


def index_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]


# What it computes


@pytest.mark.parametrize("task", LABELS)
def test_it_says_what_the_lightning_modules_say_of_the_same_features(
    task: str, encoder: DisentangledEncoder, checkpoints: list[Path], upstream: Path
) -> None:
    stage2 = load_task(checkpoints[1 + list(LABELS).index(task)], Stage2ConditionalVIB)
    waveform = noise(4000)
    with torch.no_grad():
        frames = FrozenSpeechEncoder.from_pretrained(str(upstream))(waveform[None])[0]
        features = frames[:, [layer - 1 for layer in LAYERS]]
        lengths = torch.tensor([len(features)])
        none = torch.zeros(0, dtype=torch.long)
        batch = FrameBatch(
            features, Segments.from_lengths(lengths, len(features), len(features)), ["u"], none, lengths * 0, {}, [None]
        )
        expected = stage2.predict_step(batch, 0)
        logits = stage2.classify(batch, expected["frames"]["z_acoustic"])[0].softmax(-1)

    speech = encoder(waveform)

    attention = speech.attention[task]
    found = {
        "z_textual": speech.z_textual,
        "z_acoustic": speech.z_acoustic[task],
        "attention_textual": attention["textual"],
        "attention_acoustic": attention["acoustic"],
    }
    torch.testing.assert_close(found, expected["frames"], rtol=0, atol=0)
    assert [speech.transcript] == expected["transcripts"]
    assert [speech.predictions[task][0]] == expected[task]
    assert speech.predictions[task][1] == pytest.approx(float(logits.max()))
    assert len(set(speech.transcript)) > 1, "the random stages must say something, or this test shows nothing"


def test_a_batch_gives_each_clip_what_it_gets_alone_in_the_order_of_the_input(
    encoder: DisentangledEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [noise(samples, seed) for seed, samples in enumerate([3000, 1500, 3000, 3000, 1500])]
    alone = [encoder(clip) for clip in clips]
    batches: list[tuple[int, ...]] = []
    forward = FrozenSpeechEncoder.forward
    monkeypatch.setattr(
        FrozenSpeechEncoder, "forward", lambda self, x: batches.append(tuple(x.shape)) or forward(self, x)
    )
    together = encoder(clips)

    assert batches == [(3, 3000), (2, 1500)]
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other, tolerance=1e-5)
    assert not torch.allclose(together[0].z_textual, together[2].z_textual)


def test_equal_clips_are_split_where_they_are_too_much_audio_at_once(
    encoder: DisentangledEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [noise(2000, seed) for seed in range(5)]
    whole = encoder(clips)
    monkeypatch.setattr(encoder_module, "_BATCH_SAMPLES", 4500)
    for one, other in zip(whole, encoder(clips), strict=True):
        assert_same(one, other, tolerance=1e-5)


def test_attention_sums_to_one_over_each_clip(encoder: DisentangledEncoder) -> None:
    for speech in encoder([noise(3000), noise(3000, 1)]):
        for streams in speech.attention.values():
            for weights in streams.values():
                assert weights.shape == speech.z_textual.shape[:1]
                assert float(weights.sum()) == pytest.approx(1)


def test_another_rate_is_resampled(encoder: DisentangledEncoder) -> None:
    clip = noise(9000)
    assert_same(encoder(clip, sampling_rate=44_100), encoder(resample(clip, 44_100)))


def test_training_mode_changes_nothing(encoder: DisentangledEncoder) -> None:
    clip = noise(3000)
    before = encoder(clip)
    encoder.train()
    assert not encoder.stages.training
    assert_same(encoder(clip), before)


def test_its_output_can_be_the_input_of_training(encoder: DisentangledEncoder) -> None:
    z = encoder(noise(3000)).z_textual
    weight = torch.ones(6, requires_grad=True)
    (z @ weight).sum().backward()
    assert weight.grad is not None


def test_stage_1_alone_transcribes(checkpoints: list[Path], encoder: DisentangledEncoder) -> None:
    speech = DisentangledEncoder.from_checkpoints(checkpoints[0])(noise(3000))
    assert speech.transcript == encoder(noise(3000)).transcript
    assert speech.z_acoustic == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_the_same(saved: Path, encoder: DisentangledEncoder) -> None:
    on_gpu = DisentangledEncoder.from_pretrained(saved).to("cuda")(noise(3000))
    assert on_gpu.z_textual.device.type == "cuda"
    expected = encoder(noise(3000))
    torch.testing.assert_close(
        {name: tensor.cpu() for name, tensor in tensors_of(on_gpu).items()},
        tensors_of(expected),
        rtol=1e-3,
        atol=1e-3,
    )


# Bad waveforms


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (noise(20), "too short: 20 samples"),
        (torch.zeros(0), "empty"),
        (torch.zeros(3000), "silent"),
        (torch.tensor([0.1, float("nan")] * 2000), "NaN"),
        (noise(6000).view(2, 3000), r"shape \[2, 3000\]"),
        (torch.ones(3000, dtype=torch.int16), "torch.int16"),
        (np.ones(3000), "ndarray"),
    ],
)
def test_a_bad_waveform_is_named_by_its_place(encoder: DisentangledEncoder, waveform: Any, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^waveforms\[1\] .*{reason}"):
        encoder([noise(3000), waveform])


@pytest.mark.parametrize("rate", [0, -8000, 44_100.5])
def test_a_rate_that_cannot_be_is_refused(encoder: DisentangledEncoder, rate: Any) -> None:
    with pytest.raises(UserError, match="sampling_rate"):
        encoder(noise(3000), sampling_rate=rate)


def test_a_clip_of_which_the_encoder_makes_nan_is_named(
    encoder: DisentangledEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = FrozenSpeechEncoder.forward

    def broken(self: FrozenSpeechEncoder, waveforms: Tensor) -> Tensor:
        features = forward(self, waveforms)
        features[1] = torch.inf
        return features

    monkeypatch.setattr(FrozenSpeechEncoder, "forward", broken)
    with pytest.raises(UserError, match=r"NaN .*waveforms\[1\]"):
        encoder([noise(3000), noise(3000, 1)])


# From checkpoints


def test_stages_2_on_different_stages_1_are_refused(checkpoints: list[Path], upstream: Path, tmp_path: Path) -> None:
    other = make_stages(tmp_path, upstream, seed=1, tasks={"type": LABELS["type"]})
    with pytest.raises(UserError, match="different Stage 1s"):
        DisentangledEncoder.from_checkpoints([checkpoints[1], other[1]])


def test_two_stages_2_of_one_task_are_refused(checkpoints: list[Path]) -> None:
    with pytest.raises(UserError, match="second Stage 2 for task 'emotion'"):
        DisentangledEncoder.from_checkpoints([checkpoints[1], checkpoints[1]])


def test_no_checkpoint_is_refused() -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        DisentangledEncoder.from_checkpoints([])


# Saved and loaded


def test_what_is_saved_comes_back_bit_for_bit(encoder: DisentangledEncoder, saved: Path) -> None:
    loaded = DisentangledEncoder.from_pretrained(saved)
    torch.testing.assert_close(loaded.state_dict(), encoder.state_dict(), rtol=0, atol=0)
    assert loaded.config == encoder.config
    assert loaded.fingerprint == encoder.fingerprint
    assert_same(loaded(noise(3000)), encoder(noise(3000)))


def test_a_folder_holds_numbers_and_text_only_and_no_weight_of_the_speech_encoder(
    encoder: DisentangledEncoder, saved: Path
) -> None:
    assert sorted(file.name for file in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert all(name.startswith("stages.") for name in file.keys())  # noqa: SIM118  not a dict
    config = json.loads((saved / "config.json").read_text())
    assert config["upstream"]["fingerprint"] == encoder.upstream.identity["fingerprint"]
    assert config["upstream"]["layers"] == LAYERS


def test_the_model_card_claims_figures_only_where_they_are_handed_in(
    encoder: DisentangledEncoder, saved: Path, tmp_path: Path
) -> None:
    assert "Measured" not in (saved / "README.md").read_text()
    encoder.save_pretrained(tmp_path / "model", figures={"stage1.wer": 0.0512345})
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| stage1.wer | 0.05123 |" in card
    assert "z_acoustic` of emotion: 5 dimensions a frame, 2 classes" in card


def test_saving_again_replaces_the_model_and_its_card_but_no_readme_of_others(
    encoder: DisentangledEncoder, checkpoints: list[Path], model: Path
) -> None:
    textual = DisentangledEncoder.from_checkpoints(checkpoints[0])
    textual.save_pretrained(model, figures={"stage1.wer": 0.5})
    assert DisentangledEncoder.from_pretrained(model).fingerprint == textual.fingerprint
    assert "0.5" in (model / "README.md").read_text()
    (model / "README.md").write_text("# My notes")
    encoder.save_pretrained(model)
    assert (model / "README.md").read_text() == "# My notes"
    assert DisentangledEncoder.from_pretrained(model).fingerprint == encoder.fingerprint


def test_a_full_disk_leaves_the_old_model_and_no_rest(
    encoder: DisentangledEncoder, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in model.iterdir()}

    def full(self: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"cannot be written: .*No space left"):
        encoder.save_pretrained(model)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before
    assert [file.name for file in model.parent.iterdir()] == ["model"]


def test_a_model_that_was_replaced_by_half_is_refused(
    encoder: DisentangledEncoder, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if self.name == "config.json":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        encoder.save_pretrained(model)
    with pytest.raises(UserError, match=r"no config\.json"):
        DisentangledEncoder.from_pretrained(model)


def test_what_is_pushed_to_the_hub_comes_back_from_there(
    encoder: DisentangledEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"

    class Api:
        def __init__(self, token: str | None = None) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id: str, folder_path: Path, **_: Any) -> str:
            shutil.copytree(folder_path, hub / repo_id)
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    address = encoder.save_pretrained(
        tmp_path / "model", figures={"stage1.wer": 0.5}, repo_id="someone/model", push_to_hub=True
    )
    assert address == "https://hub/someone/model/commit/1"
    assert "| stage1.wer | 0.5 |" in (hub / "someone" / "model" / "README.md").read_text()
    monkeypatch.setattr(
        "disentangle_lightning.deployment.model_folder.snapshot_download",
        lambda name, revision, **_: str(hub / name) if revision == "main" else None,
    )
    loaded = DisentangledEncoder.from_pretrained("someone/model", revision="main")
    assert loaded.fingerprint == encoder.fingerprint


def test_a_model_is_not_saved_over_a_file(encoder: DisentangledEncoder, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        encoder.save_pretrained(tmp_path / "model")


class Marker:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pickle_is_never_loaded(model: Path, tmp_path: Path, name: str) -> None:
    (model / "model.safetensors").unlink()
    torch.save({"stages.ctc_head.weight": Marker(tmp_path / "ran")}, model / name)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        DisentangledEncoder.from_pretrained(model)
    assert not (tmp_path / "ran").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        DisentangledEncoder.from_pretrained(tmp_path / "nowhere")


def test_a_hub_id_that_cannot_be_had_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="'nobody/nothing' is no local folder, and the Hugging Face Hub"):
        DisentangledEncoder.from_pretrained("nobody/nothing", cache_dir=tmp_path)


def test_the_folder_of_another_model_is_refused(upstream: Path) -> None:
    with pytest.raises(UserError, match="holds no DisentangledEncoder"):
        DisentangledEncoder.from_pretrained(upstream)


def damage_config(model: Path, **changes: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    "damage",
    [
        lambda model: (model / "config.json").unlink(),
        lambda model: (model / "config.json").write_text("{"),
        lambda model: (model / "config.json").write_text("[]"),
        lambda model: damage_config(model, latent_encoder=None),
        lambda model: damage_config(model, tasks=[{"task": "emotion"}]),
        lambda model: damage_config(model, upstream={"layers": [1, 3]}),
        lambda model: damage_config(model, alphabet="ABCD"),
        lambda model: damage_config(model, tasks=[]),
        lambda model: (model / "model.safetensors").unlink(),
        lambda model: (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-100]),
        lambda model: safetensors.torch.save_file({"a": torch.ones(1)}, model / "model.safetensors"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(model: Path, damage: Any) -> None:
    damage(model)
    with pytest.raises(UserError, match=str(model)) as caught:
        DisentangledEncoder.from_pretrained(model)
    assert "\n" not in str(caught.value)


# The speech encoder


def test_other_weights_of_the_speech_encoder_are_refused(model: Path, tmp_path: Path) -> None:
    other = make_upstream(tmp_path / "other", seed=1)
    loaded = DisentangledEncoder.from_pretrained(model, upstream=other)
    with pytest.raises(UserError, match="not the one that this model was trained on"):
        loaded(noise(3000))
    with pytest.raises(UserError, match="not the one that this model was trained on"):
        next(loaded.attempt_files([write_sound(tmp_path / "a.wav")]))
    with pytest.raises(UserError, match="not the one that this model was trained on"):
        disentangle(str(model), [tmp_path / "a.wav"], tmp_path / "out", progress=False, upstream=str(other))
    assert not (tmp_path / "out").exists()


def test_a_speech_encoder_that_has_moved_is_found_where_it_is_said_to_be(
    model: Path, upstream: Path, tmp_path: Path, encoder: DisentangledEncoder
) -> None:
    config = json.loads((model / "config.json").read_text())
    damage_config(model, upstream=config["upstream"] | {"name": str(tmp_path / "gone")})
    with pytest.raises(UserError, match=r"gone does not exist .*`upstream`"):
        DisentangledEncoder.from_pretrained(model)(noise(3000))
    moved = shutil.copytree(upstream, tmp_path / "moved")
    assert_same(DisentangledEncoder.from_pretrained(model, upstream=moved)(noise(3000)), encoder(noise(3000)))


def test_the_window_of_training_is_restored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=32, num_hidden_layers=2, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=48, max_source_positions=100,
        max_target_positions=8, vocab_size=8, pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    transformers.WhisperModel(config).save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor(chunk_length=2).save_pretrained(tmp_path)
    trained = FrozenSpeechEncoder.from_pretrained(str(tmp_path), window_seconds=1.0)
    again = load_trained_upstream(trained.identity | {"precision": "fp32"}, None)
    assert again.identity == trained.identity
    assert again.maximum_samples == 16_000
    torch.testing.assert_close(again(noise(8000)[None]), trained(noise(8000)[None]), rtol=0, atol=0)
    with pytest.raises(UserError, match="clip is too long: 16001 samples"):
        checked_waveform("clip", noise(16_001), 16_000, again)


# Files


def test_files_give_what_their_waveforms_give(encoder: DisentangledEncoder, tmp_path: Path) -> None:
    paths = [write_sound(tmp_path / f"{i}.wav", samples, i) for i, samples in enumerate([3000, 1500, 3000])]
    for path, speech in zip(paths, encoder.encode_files(paths), strict=True):
        waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        assert_same(speech, encoder(waveform), tolerance=1e-5)


def test_a_bad_file_is_named_after_the_good_ones_before_it(encoder: DisentangledEncoder, tmp_path: Path) -> None:
    outcomes = encoder.encode_files([write_sound(tmp_path / "good.wav"), write_sound(tmp_path / "short.wav", 10)])
    assert next(outcomes).z_textual.shape[1] == 6
    with pytest.raises(UserError, match=r"short\.wav is too short"):
        next(outcomes)


def test_disentangle_writes_every_tensor_and_a_line_for_each_file(
    saved: Path, tmp_path: Path, encoder: DisentangledEncoder
) -> None:
    write_sound(tmp_path / "audio" / "a.wav")
    write_sound(tmp_path / "audio" / "deep" / "b.flac", 1600, 1, rate=8000)
    summary = disentangle(str(saved), [tmp_path / "audio"], tmp_path / "out", progress=False)

    assert (summary.written, summary.kept, summary.skipped) == (2, 0, [])
    lines = index_of(tmp_path / "out")
    assert [line["id"] for line in lines] == ["a", "deep/b"]
    for line, speech in zip(
        lines, encoder.encode_files([tmp_path / "out" / line["audio"] for line in lines]), strict=True
    ):
        written = safetensors.torch.load_file(tmp_path / "out" / f"{line['id']}.safetensors")
        torch.testing.assert_close(written, tensors_of(speech), rtol=1e-5, atol=1e-5)
        assert line["transcript"] == speech.transcript
        assert line["frames"] == len(speech.z_textual)
        assert line["frame_rate"] == speech.frame_rate
        assert line["predictions"]["type"]["class"] == speech.predictions["type"][0]
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_disentangle_skips_counts_and_lists_what_cannot_be_used(saved: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    write_sound(audio / "good.wav")
    write_sound(audio / "short.wav", 10)
    soundfile.write(audio / "silent.wav", np.zeros(3000), 16_000)
    (audio / "text.mp3").write_text("not sound")
    (audio / "notes.txt").write_text("not looked at")
    (tmp_path / "empty").mkdir()
    summary = disentangle(
        str(saved), [audio, tmp_path / "gone.wav", tmp_path / "empty"], tmp_path / "out", progress=False
    )

    assert summary.written == 1
    reasons = {Path(skip.id).name: skip.reason for skip in summary.skipped}
    assert sorted(reasons) == ["empty", "gone.wav", "short.wav", "silent.wav", "text.mp3"]
    assert "too short" in reasons["short.wav"]
    assert "does not exist" in reasons["gone.wav"]
    listed = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert {Path(entry["audio"]).name: entry["reason"] for entry in listed} == reasons
    assert "1 file disentangled" in str(summary)
    assert all(reason in str(summary) for reason in reasons.values())


def test_files_of_one_name_do_not_overwrite_each_other(saved: Path, tmp_path: Path) -> None:
    sounds = [write_sound(tmp_path / name / "x.wav", seed=seed) for seed, name in enumerate("ab")]
    sounds.append(write_sound(tmp_path / "a" / "X.flac", seed=2))
    disentangle(str(saved), [*sounds, sounds[0]], tmp_path / "out", progress=False)

    assert {line["id"]: line["audio"] for line in index_of(tmp_path / "out")} == {
        "x": "../a/x.wav",
        "x-2": "../b/x.wav",
        "X-3": "../a/X.flac",
    }
    textual = [
        safetensors.torch.load_file(tmp_path / "out" / f"{id}.safetensors")["z_textual"] for id in ("x", "x-2", "X-3")
    ]
    assert not torch.equal(textual[0], textual[1])
    assert not torch.equal(textual[0], textual[2])


def test_a_run_that_was_killed_goes_on_where_it_stopped(saved: Path, tmp_path: Path) -> None:
    audio, out = tmp_path / "audio", tmp_path / "out"
    for i in range(4):
        write_sound(audio / f"{i}.wav", seed=i)
    disentangle(str(saved), [audio], out, progress=False)
    finished = (out / "index.jsonl").read_bytes()
    # Killed in the middle of the last line; and someone deleted the outputs of another file.
    (out / "index.jsonl").write_bytes(finished[:-20])
    (out / "1.safetensors").unlink()
    kept = {file: (out / file).stat().st_mtime_ns for file in ("0.safetensors", "2.safetensors")}

    summary = disentangle(str(saved), [audio], out, progress=False)

    assert (summary.written, summary.kept) == (2, 2)
    before = {entry["id"]: entry for entry in map(json.loads, finished.splitlines())}
    after = index_of(out)
    assert sorted(entry["id"] for entry in after) == sorted(before)
    for entry in after:
        assert {k: v for k, v in entry.items() if k != "predictions"} == {
            k: v for k, v in before[entry["id"]].items() if k != "predictions"
        }
    assert {file: (out / file).stat().st_mtime_ns for file in kept} == kept
    assert disentangle(str(saved), [audio], out, progress=False).kept == 4


def test_outputs_of_another_model_are_not_added_to(saved: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.wav")
    disentangle(str(saved), [sound], tmp_path / "out", progress=False)
    DisentangledEncoder.from_checkpoints(checkpoints[0]).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="another model"):
        disentangle(str(tmp_path / "other"), [sound], tmp_path / "out", progress=False)


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    (tmp_path / "index.jsonl").touch()
    with (tmp_path / "index.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"), OutputFolder(tmp_path, "f"):
            pass


def test_a_damaged_index_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "index.jsonl").write_text("[]\n")
    with pytest.raises(UserError, match=r"index\.jsonl is damaged"), OutputFolder(tmp_path, "f"):
        pass
    assert (tmp_path / "index.jsonl").read_text() == "[]\n"


def test_nothing_usable_is_an_error_that_says_why(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 1 sound files .*too short"):
        disentangle(str(saved), [write_sound(tmp_path / "a.wav", 10)], tmp_path / "out", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no sound files in"):
        disentangle(str(saved), [tmp_path / "empty"], tmp_path / "out2", progress=False)
    assert not (tmp_path / "out2").exists()


def test_an_unknown_device_is_refused_before_anything_is_written(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device 'abacus'"):
        disentangle(str(saved), [write_sound(tmp_path / "a.wav")], tmp_path / "out", "abacus", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_of_an_output(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = write_sound(tmp_path / "a.wav")
    write_bytes = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if ".safetensors" in self.name:
            write_bytes(self, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"a\.safetensors cannot be written: No space left"):
        disentangle(str(saved), [sound], tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").glob("a.safetensors*"))
    monkeypatch.undo()
    assert disentangle(str(saved), [sound], tmp_path / "out", progress=False).written == 1


# Documentation


def test_the_example_of_the_class_runs(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(saved, tmp_path / "model")
    write_sound(tmp_path / "clip.wav")
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder(recurse=False).find(DisentangledEncoder, globs=vars(encoder_module).copy())
    assert examples[0].examples
    results = doctest.DocTestRunner(verbose=False).run(examples[0])
    assert results.failed == 0
