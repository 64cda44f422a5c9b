"""A corpus reader from its settings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from disentangle_lightning.corpus.manifest import Corpus
from disentangle_lightning.errors import UserError

_SHORT = {
    "AudioFolder": "disentangle_lightning.corpus.audio_folder.AudioFolder",
    "ManifestFile": "disentangle_lightning.corpus.manifest_file.ManifestFile",
    "SyntheticSpeech": "disentangle_lightning.corpus.synthetic.SyntheticSpeech",
}


class CorpusReader(Protocol):
    """Anything that finds utterances."""

    def read(self) -> Corpus: ...


def make_reader(settings: Mapping[str, Any]) -> CorpusReader:
    """The reader of `{class_path: AudioFolder, init_args: {folder: ...}}`.

    A `class_path` is one of this package's readers by its name, or any class by its full path.

    Raises:
        UserError: the class does not exist, or does not take these arguments.
    """
    name = str(settings.get("class_path", ""))
    path = _SHORT.get(name, name)
    module, _, attribute = path.rpartition(".")
    try:
        reader = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise UserError(
            f"field 'corpus.class_path' is '{name}'; expected {', '.join(_SHORT)}, or the full path of a class"
        ) from None
    arguments = dict(settings.get("init_args") or {})
    try:
        inspect.signature(reader).bind(**arguments)
    except TypeError as error:
        raise UserError(f"field 'corpus.init_args' does not fit {name}: {error}") from None
    made: CorpusReader = reader(**arguments)
    return made
