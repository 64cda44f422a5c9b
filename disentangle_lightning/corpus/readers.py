"""A corpus reader from its settings."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
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
    "Several": "disentangle_lightning.corpus.several.Several",
    "SyntheticSpeech": "disentangle_lightning.corpus.synthetic.SyntheticSpeech",
    "TESS": "disentangle_lightning.corpus.tess.TESS",
    "VoxCeleb1": "disentangle_lightning.corpus.voxceleb1.VoxCeleb1",
}


class CorpusReader(Protocol):
    """Anything that finds utterances."""

    def read(self) -> Corpus: ...


def make_reader(settings: Mapping[str, Any], field: str = "corpus") -> CorpusReader:
    """The reader of `{class_path: AudioFolder, init_args: {folder: ...}}`.

    A `class_path` is one of this package's readers by its name, or any class by its full path.

    Args:
        settings: as above.
        field: where they stand, for errors.

    Raises:
        UserError: the class does not exist or is no reader, or does not take these arguments.
    """
    if unknown := settings.keys() - {"class_path", "init_args"}:
        raise UserError(f"field '{field}.{min(unknown)}' is unknown; a corpus has class_path and init_args")
    reader = load_reader(str(settings.get("class_path", "")), f"{field}.class_path")
    return construct(reader, settings.get("init_args") or {}, f"field '{field}.init_args.{{}}'")


def reader_name(written: str) -> str:
    """The name of a reader in any spelling (`crema-d`, `CREMAD`, `emo_db`); a full path is left as it is.

    Raises:
        UserError: there is no such reader.
    """
    if "." in written:
        return written
    known = {name.lower(): name for name in _SHORT}
    name = known.get(re.sub("[^a-z0-9]", "", written.lower()))
    if name is None:
        raise UserError(f"there is no corpus reader '{written}'; expected one of {', '.join(_SHORT)}")
    return name


def reader_names() -> list[str]:
    """The names of this package's readers."""
    return list(_SHORT)


def reader_help(name: str) -> str:
    """The docstring of a reader of this package, for which nothing is imported."""
    module, _, attribute = _SHORT[name].rpartition(".")
    source = Path(__file__).with_name(f"{module.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return next(ast.get_docstring(node) or "" for node in classes if node.name == attribute)


def load_reader(name: str, field: str = "corpus.class_path") -> type[CorpusReader]:
    """The class of a reader, by its name or full path; `field` is where it stands, for errors.

    Raises:
        UserError: it does not exist or is no reader.
    """
    path = _SHORT.get(name, name)
    module, _, attribute = path.rpartition(".")
    try:
        reader = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError):
        raise UserError(
            f"field '{field}' is '{name}'; expected {', '.join(_SHORT)}, or the full path of a class"
        ) from None
    if not inspect.isclass(reader) or not hasattr(reader, "read"):
        raise UserError(f"field '{field}' is '{name}', which is no class with a method read")
    return cast(type[CorpusReader], reader)


def construct(reader: type[CorpusReader], arguments: Mapping[str, Any], naming: str) -> CorpusReader:
    """A reader with its options, each checked against its annotation.

    Args:
        reader: the class.
        arguments: the options, as YAML gives them.
        naming: what an option is called in an error, with `{}` for its name.

    Raises:
        UserError: the class does not take these options.
    """
    signature = inspect.signature(reader, eval_str=True)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(f"corpus reader {reader.__name__} does not take these options: {error}") from None
    for argument, value in arguments.items():
        expected = signature.parameters[argument].annotation if argument in signature.parameters else None
        if not _fits(value, expected):
            wanted = inspect.formatannotation(expected).replace("collections.abc.Sequence", "list")
            raise UserError(f"{naming.format(argument)} is {value!r}; expected {wanted}")
    return reader(**arguments)


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
