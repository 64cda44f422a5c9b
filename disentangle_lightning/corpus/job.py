"""A corpus on disk becomes a manifest: the work of the verb `corpus`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from omegaconf import OmegaConf

from disentangle_lightning.atomic import write_text
from disentangle_lightning.corpus.manifest import Corpus, write_manifest
from disentangle_lightning.corpus.readers import CorpusReader, construct, load_reader, reader_name
from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import SplitSettings
from disentangle_lightning.settings_files import override_pairs, override_tree, read_settings

Pairs = Sequence[tuple[str, str]]


def run_corpus(name: str, path: str, out: Path, overrides: Sequence[str]) -> tuple[Corpus, CTCTokenizer]:
    """Read a corpus, prepare it, and write its manifest and, beside it, what was skipped.

    Without an override of `splits` every utterance keeps the split it came with, or has none.

    Args:
        name: of a reader, in any spelling, or the full path of its class.
        path: the reader's first argument, as a rule a folder.
        out: the manifest; overwritten once the new one is complete.
        overrides: `--splits.FIELD`, and the reader's options, each with its value.

    Raises:
        UserError: there is no such reader or option, a value does not fit, the corpus cannot be read, or its
            splits cannot be assigned.
    """
    reader_class = load_reader(reader_name(name))
    pairs = override_pairs(overrides)
    of_splits = [pair for pair in pairs if pair[0].startswith("splits.")]
    reader = _make(reader_class, path, [pair for pair in pairs if pair not in of_splits])
    settings = _split_settings(of_splits)
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name the manifest in it, such as {out / 'manifest.jsonl'}")

    from disentangle_lightning.corpus.prepare import prepare  # imports torch; wrong options need not wait for it

    corpus, tokenizer = prepare(reader.read(), settings)
    lines = [json.dumps(asdict(skip), ensure_ascii=False) + "\n" for skip in corpus.skipped]
    write_text(skipped_file(out), "".join(lines))
    write_manifest(out, corpus.utterances)
    return corpus, tokenizer


def skipped_file(out: Path) -> Path:
    """Where the list of what was skipped lies: manifest.skipped.jsonl beside manifest.jsonl."""
    return out.with_suffix(".skipped.jsonl")


def _split_settings(pairs: Pairs) -> SplitSettings | None:
    if not pairs:
        return None
    try:
        return read_settings(SplitSettings, None, [f"--{f.removeprefix('splits.')}={value}" for f, value in pairs])
    except UserError as error:
        raise UserError(f"--splits: {error}") from None


def _make(reader: type[CorpusReader], path: str, pairs: Pairs) -> CorpusReader:
    signature = inspect.signature(reader, eval_str=True)
    first, *options = signature.parameters
    for field, _ in pairs:
        if field.partition(".")[0] not in options:
            takes = ", ".join(f"--{option}" for option in options) or "none of its own"
            raise UserError(
                f"corpus reader {reader.__name__} has no option --{field}; it takes {takes}, "
                "and every corpus --splits.FIELD"
            )
    text = [(field, value) for field, value in pairs if _is_text(signature.parameters.get(field), value)]
    arguments = OmegaConf.to_container(override_tree([pair for pair in pairs if pair not in text]), resolve=False)
    assert isinstance(arguments, dict)
    return construct(reader, {first: path, **{str(k): v for k, v in arguments.items()}, **dict(text)}, "--{}")


def _is_text(parameter: inspect.Parameter | None, value: str) -> bool:
    """Whether a value is meant as it stands: to YAML, the language `no` is false and the version 17.0 a number."""
    if parameter is None:
        return False
    annotation: Any = parameter.annotation
    return annotation is str or (set(get_args(annotation)) == {str, type(None)} and value != "null")
