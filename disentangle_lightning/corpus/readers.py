"""A corpus reader from its settings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Union, cast, get_args, get_origin

from disentangle_lightning.corpus.manifest import Corpus
from disentangle_lightning.errors import UserError

_SHORT = {
    "AudioFolder": "disentangle_lightning.corpus.audio_folder.AudioFolder",
    "CommonVoice": "disentangle_lightning.corpus.common_voice.CommonVoice",
    "CREMAD": "disentangle_lightning.corpus.crema_d.CREMAD",
    "EmoDB": "disentangle_lightning.corpus.emo_db.EmoDB",
    "FluentSpeechCommands": "disentangle_lightning.corpus.fluent_speech_commands.FluentSpeechCommands",
    "HuggingFaceDataset": "disentangle_lightning.corpus.hugging_face.HuggingFaceDataset",
    "IEMOCAP": "disentangle_lightning.corpus.iemocap.IEMOCAP",
    "KaldiData": "disentangle_lightning.corpus.kaldi.KaldiData",
    "LhotseCutSet": "disentangle_lightning.corpus.lhotse_cuts.LhotseCutSet",
    "LibriSpeech": "disentangle_lightning.corpus.librispeech.LibriSpeech",
    "ManifestFile": "disentangle_lightning.corpus.manifest_file.ManifestFile",
    "RAVDESS": "disentangle_lightning.corpus.ravdess.RAVDESS",
    "SyntheticSpeech": "disentangle_lightning.corpus.synthetic.SyntheticSpeech",
    "TESS": "disentangle_lightning.corpus.tess.TESS",
    "VoxCeleb1": "disentangle_lightning.corpus.voxceleb1.VoxCeleb1",
}


class CorpusReader(Protocol):
    """Anything that finds utterances."""

    def read(self) -> Corpus: ...


def make_reader(settings: Mapping[str, Any]) -> CorpusReader:
    """The reader of `{class_path: AudioFolder, init_args: {folder: ...}}`.

    A `class_path` is one of this package's readers by its name, or any class by its full path.

    Raises:
        UserError: the class does not exist or is no reader, or does not take these arguments.
    """
    if unknown := settings.keys() - {"class_path", "init_args"}:
        raise UserError(f"field 'corpus.{min(unknown)}' is unknown; a corpus has class_path and init_args")
    name = str(settings.get("class_path", ""))
    path = _SHORT.get(name, name)
    module, _, attribute = path.rpartition(".")
    try:
        reader = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError):
        raise UserError(
            f"field 'corpus.class_path' is '{name}'; expected {', '.join(_SHORT)}, or the full path of a class"
        ) from None
    if not inspect.isclass(reader) or not hasattr(reader, "read"):
        raise UserError(f"field 'corpus.class_path' is '{name}', which is no class with a method read")
    arguments = settings.get("init_args") or {}
    try:
        signature = inspect.signature(reader, eval_str=True)
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(f"field 'corpus.init_args' does not fit {name}: {error}") from None
    for argument, value in arguments.items():
        expected = signature.parameters[argument].annotation if argument in signature.parameters else None
        if not _fits(value, expected):
            wanted = inspect.formatannotation(expected).replace("collections.abc.Sequence", "list")
            raise UserError(f"field 'corpus.init_args.{argument}' is {value!r}; expected {wanted}")
    return cast(CorpusReader, reader(**arguments))


def _fits(value: Any, expected: Any) -> bool:
    """Whether a value from YAML is of an annotated type; types that YAML does not have pass."""
    kind, of = get_origin(expected), get_args(expected)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in of)
    if kind is Literal:
        return value in of
    if kind in (list, Sequence):
        return isinstance(value, list | tuple) and all(_fits(item, of[0]) for item in value)
    if expected is float:
        return type(value) in (int, float)
    return type(value) is expected if expected in (str, int, bool, NoneType) else True
