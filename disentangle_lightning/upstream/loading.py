"""From a name to a checkpoint's parts, without running any code that comes with it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.families import FAMILIES, SAMPLE_RATE, Family

EMBEDDED = Path(__file__).with_name("embedded")

_CONFIGS = ["config.json", "preprocessor_config.json", "processor_config.json"]
_SAFE_WEIGHTS = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_PICKLED_WEIGHTS = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]

_UNUSED_WEIGHT = "masked_spec_embed"
"""What stands for masked frames in training: many checkpoints lack it, and no feature depends on it."""


@dataclass(frozen=True)
class Checkpoint:
    """A frozen encoder and the conventions that it is used by.

    Attributes:
        encoder: the speech encoder, a transformers model, float32, in evaluation mode, without gradients.
        family: its conventions.
        model_type: the family's name.
        revision: the commit on the hub; None for a folder.
        fingerprint: SHA-256 over the names, shapes and values of the weights.
    """

    encoder: Any
    family: Family
    model_type: str
    revision: str | None
    fingerprint: str


def load_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Load an encoder by hub id, local folder, or `embedded`.

    Weights come from safetensors files, or else from a pickle of which nothing but tensors is read.

    Raises:
        UserError: there is no such encoder, its family is not supported, or files are broken or missing.
    """
    import transformers

    folder, commit = _locate(name, revision)
    model_type = _read_model_type(name, folder)
    family_class = FAMILIES[model_type]
    model_class = getattr(transformers, family_class.model_class)
    with _refusing(f"the configuration of encoder {name!r} cannot be read"):
        config = model_class.config_class.from_pretrained(folder)
        for field, value in family_class.overrides.items():
            setattr(config, field, value)
        family = family_class(config, _load_extractor(name, folder, family_class, config))
    encoder = _load_encoder(name, folder, family_class, model_class, config)
    return Checkpoint(encoder, family, model_type, commit, _fingerprint(encoder))


def _locate(name: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder that holds the checkpoint, downloaded if need be, and its commit."""
    folder = EMBEDDED if name == "embedded" else Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"encoder {name!r} is a folder and has no revision {revision!r}: leave it out")
        return folder, None
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UserError(f"encoder folder {name} does not exist")
    return _download(name, revision)


def _download(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_CONFIGS + _SAFE_WEIGHTS))
        if not any(folder.glob("model*.safetensors")):
            # By commit, so that both downloads see one state of the repository.
            snapshot_download(name, revision=folder.name, allow_patterns=_PICKLED_WEIGHTS)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"encoder {name!r} is no local folder, and the Hugging Face Hub does not give it: {_brief(error)}"
        ) from error
    return folder, folder.name


def _read_model_type(name: str, folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = config["model_type"]
    except FileNotFoundError:
        raise UserError(f"encoder {name!r} has no config.json in {folder}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"the config.json of encoder {name!r} is not JSON with a model_type") from None
    if model_type not in FAMILIES:
        raise UserError(
            f"encoder {name!r} is of type {model_type!r}; supported types are {', '.join(sorted(FAMILIES))}"
        )
    return str(model_type)


def _load_extractor(name: str, folder: Path, family_class: type[Family], config: Any) -> Any:
    import transformers

    if not any((folder / file).is_file() for file in ("preprocessor_config.json", "processor_config.json")):
        warnings.warn(
            f"encoder {name!r} has no preprocessor_config.json: the default of its family prepares the input",
            stacklevel=4,
        )
        return family_class.default_extractor(config)
    extractor = getattr(transformers, family_class.extractor_class).from_pretrained(folder)
    if extractor.sampling_rate != SAMPLE_RATE:
        raise UserError(
            f"encoder {name!r} takes {extractor.sampling_rate} Hz; only encoders for 16000 Hz are supported"
        )
    return extractor


def _load_encoder(name: str, folder: Path, family_class: type[Family], model_class: Any, config: Any) -> Any:
    with _refusing(f"the weights of encoder {name!r} cannot be loaded"), _quiet_transformers():
        model, report = model_class.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            weights_only=True,
            local_files_only=True,
            output_loading_info=True,
        )
    attribute = family_class.encoder_attribute
    encoder = model if attribute is None else getattr(model, attribute)
    prefix = "" if attribute is None else f"{attribute}."
    missing = sorted(key for key in report["missing_keys"] if key.startswith(prefix) and key != _UNUSED_WEIGHT)
    if missing:
        raise UserError(
            f"encoder {name!r} is incomplete: {len(missing)} of its weights are missing, as {missing[0]} is"
        )
    return encoder.eval().requires_grad_(False)


def _fingerprint(encoder: Any) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(encoder.state_dict().items()):
        if key != _UNUSED_WEIGHT:
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Whatever a library raises about a foreign file becomes one sentence; the cause stays attached."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    """The first sentence of a library's message."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first_line.split(". ")[0].rstrip(".")


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No table of weights that the frame features do not use (a CTC head, a decoder), no progress bar."""
    from transformers.utils import logging

    verbosity, progress_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
