"""Several corpora as one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.prepare import divide
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import SplitSettings

_FIELD = "corpus.init_args"


class Several:
    """A corpus reader that joins corpora, as LibriSpeech and Common Voice for the Stage 1 of arXiv 2410.03037.

    The name of its corpus goes before every id and every speaker, `librispeech/103`: the speaker 1 of two corpora is
    two people. The label `corpus` holds it. Each corpus is divided by itself, keeping the splits that it came with:
    otherwise the test split of one of them would leave the others without.

    Args:
        corpora: `{name: {class_path: LibriSpeech, init_args: {folder: ...}}}`; in a settings file or on the command
            line each may be the path of a file that holds them.
        splits: `{name: ...}`, for each corpus what a pipeline's `splits` would be for it alone; without them, the
            default, `disjoint: auto`. What is to be learnt is not known here: where that is who speaks, ask for
            `disjoint: sentence` or null.

    Raises:
        UserError: there is no corpus, a name is not made of letters, digits, `_` and `-`, what stands under it is no
            reader's settings, `splits` name another corpus, or a corpus cannot be read or divided.
    """

    def __init__(self, corpora: dict[str, dict[str, Any]], splits: dict[str, dict[str, Any]] | None = None) -> None:
        if not isinstance(corpora, Mapping) or not corpora:
            raise UserError(
                f"field '{_FIELD}.corpora' is {corpora!r}; expected the name of each corpus with its class_path and "
                "init_args"
            )
        for name, settings in corpora.items():
            if not re.fullmatch(r"[\w-]+", str(name)):
                raise UserError(f"field '{_FIELD}.corpora' names a corpus '{name}'; use letters, digits, _ and -")
            if not isinstance(settings, Mapping):
                raise UserError(f"field '{_FIELD}.corpora.{name}' is {settings!r}; expected class_path and init_args")
        if unknown := (splits or {}).keys() - corpora.keys():
            raise UserError(
                f"field '{_FIELD}.splits' names '{min(unknown)}'; the corpora are {', '.join(map(str, corpora))}"
            )
        self.readers = {
            str(name): make_reader(settings, f"{_FIELD}.corpora.{name}") for name, settings in corpora.items()
        }
        self.splits = {str(name): _split_settings((splits or {}).get(name, {}), name) for name in corpora}

    def read(self) -> Corpus:
        """Read and divide one corpus after the other."""
        joined = Corpus([])
        for name, reader in self.readers.items():
            found = reader.read()
            try:
                utterances, left_out = divide(found.utterances, self.splits[name])
            except UserError as error:
                raise UserError(f"corpus '{name}': {error}") from None
            joined.utterances.extend(_of_corpus(u, name) for u in utterances)
            joined.skipped.extend(Skipped(f"{name}/{s.id}", s.reason) for s in [*found.skipped, *left_out])
        return joined


def _split_settings(fields: Mapping[str, Any], name: str) -> SplitSettings:
    try:
        checked = OmegaConf.merge(OmegaConf.structured(SplitSettings), dict(fields))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise UserError(f"field '{_FIELD}.splits.{name}': {str(error).splitlines()[0]}") from None
    return cast(SplitSettings, OmegaConf.to_object(checked))


def _of_corpus(utterance: Utterance, name: str) -> Utterance:
    return replace(
        utterance,
        id=f"{name}/{utterance.id}",
        speaker=None if utterance.speaker is None else f"{name}/{utterance.speaker}",
        labels=utterance.labels | {"corpus": name},
    )
