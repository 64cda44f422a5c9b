"""What a checkpoint may lack, what it must not, and that nothing it brings along is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder
from disentangle_lightning.upstream.families import FAMILIES

Make = Callable[..., Path]


def load(folder: Path | str) -> FrozenSpeechEncoder:
    return FrozenSpeechEncoder.from_pretrained(str(folder))


def edit_config(folder: Path, file: str = "config.json", **changes: object) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | changes))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["/no/such/folder", "./folder", "~/folder", "one/two/three"])
def test_a_folder_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"^encoder folder {name} does not exist$"):
        load(name)


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("name", ["nobody/no-such-encoder", "no-such-encoder", "not a name"])
def test_an_encoder_that_the_hub_does_not_give_is_named_in_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match=f"^encoder '{name}' is no local folder, and the Hugging Face") as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_hub_encoder_is_read_from_the_cache_and_its_commit_recorded(hub_cache: Path, make_checkpoint: Make) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = hub_cache / "models--someone--tiny"
    shutil.copytree(make_checkpoint("wav2vec2"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)

    identity = load("someone/tiny").identity
    assert (identity["name"], identity["revision"]) == ("someone/tiny", commit)
    assert identity["fingerprint"] == load(make_checkpoint("wav2vec2")).identity["fingerprint"]


def test_a_revision_of_a_folder_is_refused(make_checkpoint: Make) -> None:
    with pytest.raises(UserError, match="is a folder and has no revision 'main'"):
        FrozenSpeechEncoder.from_pretrained(str(make_checkpoint("wav2vec2")), revision="main")


def test_an_unsupported_family_is_refused_with_those_supported(copied_checkpoint: Path) -> None:
    edit_config(copied_checkpoint, model_type="bert")
    with pytest.raises(UserError, match="is of type 'bert'; supported types are") as caught:
        load(copied_checkpoint)
    assert all(name in str(caught.value) for name in FAMILIES)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": "wav2vec2", "hidden_size": "wide"}'])
def test_a_broken_config_is_refused(content: str, copied_checkpoint: Path) -> None:
    (copied_checkpoint / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config(\.json|uration) of encoder"):
        load(copied_checkpoint)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        load(tmp_path)


def test_an_encoder_for_another_sampling_rate_is_refused(copied_checkpoint: Path) -> None:
    edit_config(copied_checkpoint, "preprocessor_config.json", sampling_rate=8_000)
    with pytest.raises(UserError, match="takes 8000 Hz"):
        load(copied_checkpoint)


def test_without_a_preprocessor_config_the_default_of_the_family_is_used_and_said(
    copied_checkpoint: Path, make_checkpoint: Make
) -> None:
    waveforms = 0.3 * torch.randn(1, 4_000)
    with_normalisation = load(copied_checkpoint)(waveforms)
    edit_config(copied_checkpoint, "preprocessor_config.json", do_normalize=False)
    without_normalisation = load(copied_checkpoint)(waveforms)
    (copied_checkpoint / "preprocessor_config.json").unlink()
    with pytest.warns(UserWarning, match="no preprocessor_config"):
        by_default = load(copied_checkpoint)(waveforms)

    assert torch.equal(by_default, with_normalisation)
    assert not torch.allclose(by_default, without_normalisation)


def test_a_pickled_payload_is_not_executed(copied_checkpoint: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    weights = copied_checkpoint / "pytorch_model.bin"
    state = load_file(copied_checkpoint / "model.safetensors")
    (copied_checkpoint / "model.safetensors").unlink()

    torch.save({**state, "payload": Payload()}, weights)
    with pytest.raises(UserError, match=r"the weights of encoder .* cannot be loaded"):
        load(copied_checkpoint)
    weights.write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(UserError, match=r"the weights of encoder .* cannot be loaded"):
        load(copied_checkpoint)
    assert not marker.exists()

    pickle.loads(weights.read_bytes())  # the payload does work where a pickle is trusted
    assert marker.exists()


def test_code_beside_a_checkpoint_is_not_executed(copied_checkpoint: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    (copied_checkpoint / "custom.py").write_text(f"open({str(marker)!r}, 'w')")
    edit_config(copied_checkpoint, auto_map={"AutoConfig": "custom.Config", "AutoModel": "custom.Model"})
    edit_config(copied_checkpoint, "preprocessor_config.json", auto_map={"AutoFeatureExtractor": "custom.Extractor"})
    load(copied_checkpoint)
    assert not marker.exists()


def test_pickled_tensors_give_the_same_encoder_as_safetensors(copied_checkpoint: Path, make_checkpoint: Make) -> None:
    torch.save(load_file(copied_checkpoint / "model.safetensors"), copied_checkpoint / "pytorch_model.bin")
    (copied_checkpoint / "model.safetensors").unlink()
    pickled, safe = load(copied_checkpoint), load(make_checkpoint("wav2vec2"))
    assert pickled.identity["fingerprint"] == safe.identity["fingerprint"]


def test_half_precision_weights_are_computed_in_float32(copied_checkpoint: Path) -> None:
    weights = copied_checkpoint / "model.safetensors"
    save_file({key: value.half() for key, value in load_file(weights).items()}, weights, {"format": "pt"})
    edit_config(copied_checkpoint, dtype="float16")
    assert {parameter.dtype for parameter in load(copied_checkpoint).parameters()} == {torch.float32}


def test_truncated_weights_are_refused(copied_checkpoint: Path) -> None:
    weights = copied_checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"the weights of encoder .* cannot be loaded"):
        load(copied_checkpoint)


def test_no_weights_at_all_are_refused(copied_checkpoint: Path) -> None:
    (copied_checkpoint / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"the weights of encoder .* cannot be loaded"):
        load(copied_checkpoint)


def test_weights_of_another_shape_are_refused(copied_checkpoint: Path) -> None:
    edit_config(copied_checkpoint, intermediate_size=64)
    with pytest.raises(UserError, match=r"the weights of encoder .* cannot be loaded"):
        load(copied_checkpoint)


def test_an_encoder_weight_that_is_missing_is_named(copied_checkpoint: Path) -> None:
    weights = copied_checkpoint / "model.safetensors"
    state = load_file(weights)
    del state["encoder.layers.1.attention.k_proj.weight"]
    save_file(state, weights, {"format": "pt"})
    with pytest.raises(UserError, match=r"1 of its weights are missing, as encoder\.layers\.1\.attention\.k_proj"):
        load(copied_checkpoint)


@pytest.mark.parametrize("variant", ["wav2vec2", "unispeech-sat"])
def test_the_mask_embedding_may_be_missing_and_never_changes_the_identity(
    variant: str, make_checkpoint: Make, tmp_path: Path
) -> None:
    folder = shutil.copytree(make_checkpoint(variant), tmp_path / "checkpoint")
    state = load_file(folder / "model.safetensors")
    del state["masked_spec_embed"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    assert load(folder).identity["fingerprint"] == load(make_checkpoint(variant)).identity["fingerprint"]


def test_the_fingerprint_changes_with_any_weight(copied_checkpoint: Path) -> None:
    before = load(copied_checkpoint).identity["fingerprint"]
    state = load_file(copied_checkpoint / "model.safetensors")
    state["encoder.layers.2.final_layer_norm.bias"][0] += 1e-3
    save_file(state, copied_checkpoint / "model.safetensors", {"format": "pt"})
    assert load(copied_checkpoint).identity["fingerprint"] != before


def test_the_encoder_of_a_fine_tuned_model_is_loaded_silently(
    make_checkpoint: Make, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_checkpoint("wav2vec2", head="ForCTC")
    capfd.readouterr()
    encoder = load(folder)
    assert "".join(capfd.readouterr()) + caplog.text == ""

    state = load_file(folder / "model.safetensors")
    key = "encoder.layers.0.attention.k_proj.weight"
    assert torch.equal(encoder.encoder.state_dict()[key], state[f"wav2vec2.{key}"])


def test_the_verbosity_of_transformers_is_left_as_it_was(make_checkpoint: Make) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load(make_checkpoint("wav2vec2"))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize("variant", ["whisper", "moonshine"])
def test_the_decoder_is_not_kept(variant: str, make_checkpoint: Make) -> None:
    folder = make_checkpoint(variant)
    keys = load_file(folder / "model.safetensors").keys()
    assert any(key.startswith("decoder.layers.0.") for key in keys)
    loaded = set(load(folder).encoder.state_dict())
    assert loaded == {key.removeprefix("encoder.") for key in keys if key.startswith("encoder.")}
