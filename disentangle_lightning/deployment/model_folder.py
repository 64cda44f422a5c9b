"""A DisentangledEncoder on disk or on the Hugging Face Hub.

MODEL/
    config.json         everything but numbers; written last, so that a folder with it is complete
    model.safetensors   the weights: numbers only, so nothing that is loaded can run code
    README.md           the model card
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from torch import Tensor

from disentangle_lightning.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"

LIBRARY = "disentangle_lightning"

CARD_TEMPLATE = """\
---
{{ card_data }}
---

# Disentangled speech representations

Separates each frame of speech into what was said (`z_textual`) and what a task needs beyond that (`z_acoustic`):
two variational information bottlenecks on the hidden states of a frozen speech encoder, after
[arXiv 2410.03037](https://arxiv.org/abs/2410.03037), trained with disentangle_lightning.

- Encoder: {{ upstream.name | e }}{% if upstream.revision %}, revision {{ upstream.revision | e }}{% endif %}, \
layers {{ upstream.layers | join(", ") }}, {{ "%.4g" | format(upstream.frame_rate) }} frames a second. It is not \
among the files here, and is loaded by its name.
- `z_textual`: {{ latent_encoder.latent_dim }} dimensions a frame, transcribed with {{ alphabet | length }} letters.
{% for task in tasks -%}
- `z_acoustic` of {{ task.task | e }}: {{ task.latent_encoder.latent_dim }} dimensions a frame, \
{{ task.classes | length }} classes.
{% endfor %}
```python
from disentangle_lightning.corpus.audio import load_audio
from disentangle_lightning.encoder import DisentangledEncoder

encoder = DisentangledEncoder.from_pretrained("path/or/hub-id")
speech = encoder(load_audio("clip.wav"))
speech.z_textual, speech.z_acoustic, speech.transcript
```
{% if figures %}
## Measured

| figure | value |
|---|---|
{% for name, value in figures.items() -%}
| {{ name | e }} | {{ "%.4g" | format(value) }} |
{% endfor -%}
{% endif %}"""


def locate(name: str, **hub_arguments: Any) -> Path:
    """The folder of a model, downloaded if `name` is a hub id.

    Args:
        name: a local folder or a hub id.
        hub_arguments: revision, token, cache_dir... of `huggingface_hub.snapshot_download`.

    Raises:
        UserError: there is no such model.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or folder.exists():
        raise UserError(f"model folder {name} does not exist, or is no folder")
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, CARD], **hub_arguments))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"model {name!r} is no local folder, and the Hugging Face Hub does not give it: {first_line(error)}"
        ) from error


def read_config(folder: Path, fields: set[str]) -> dict[str, Any]:
    """The config.json of a model, which must have exactly these fields.

    Raises:
        UserError: it is missing or damaged, or the folder holds another kind of model.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        inside = f"; did you mean {folder / 'model'}?" if (folder / "model" / CONFIG).is_file() else ""
        raise UserError(f"folder {folder} holds no model: it has no {CONFIG}{inside}") from None
    except ValueError:
        raise UserError(f"{folder / CONFIG} is damaged: it is not JSON") from None
    if not isinstance(config, dict) or set(config) != fields:
        raise UserError(f"folder {folder} holds no DisentangledEncoder: its {CONFIG} has other fields")
    return config


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a model, by name.

    Raises:
        UserError: the file is missing or is not safetensors.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise UserError(f"folder {folder} has no {WEIGHTS}; a model's weights are read from no other file")
    try:
        return safetensors.torch.load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} is damaged, or is not safetensors: {first_line(error)}") from None


def replace_model(new: Path, folder: Path) -> None:
    """Move the files of a model from folder `new` into `folder`, over those of another model if need be.

    A README.md that is not a model card of this library stays. The old config.json goes first and the new one
    comes last: if the machine stops in between, what is left is refused, never taken for a mixture of both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    files = [WEIGHTS, CARD, CONFIG] if _may_replace(folder / CARD) else [WEIGHTS, CONFIG]
    for file in files:
        (new / file).replace(folder / file)


def first_line(error: Exception) -> str:
    """The first line of a library's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _may_replace(card: Path) -> bool:
    if not card.exists():
        return True
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    return head.startswith("---") and f"library_name: {LIBRARY}" in head
