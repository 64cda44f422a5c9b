"""A corpus that is already a manifest."""

from __future__ import annotations

from disentangle_lightning.corpus.manifest import Corpus, read_manifest
from disentangle_lightning.errors import UserError


class ManifestFile:
    """A corpus reader for a JSONL manifest that somebody wrote, or an earlier run: splits are kept.

    Args:
        path: the manifest; audio paths in it are relative to its folder.
        only: labels that an utterance must have to be read, such as `{corpus: common_voice}`; None reads all.

    Raises:
        UserError: see `read_manifest`; or no utterance has these labels.
    """

    def __init__(self, path: str, only: dict[str, str] | None = None) -> None:
        self.path = path
        self.only = only or {}

    def read(self) -> Corpus:
        """Every utterance of the manifest that is wanted."""
        utterances = read_manifest(self.path)
        for name, wanted in self.only.items():
            if not any(u.label(name) == wanted for u in utterances):
                there = ", ".join(sorted({value for u in utterances if (value := u.label(name))})[:12]) or "none"
                raise UserError(
                    f"manifest {self.path} has no utterance with {name} '{wanted}', which 'only' asks for; "
                    f"there are: {there}"
                )
            utterances = [u for u in utterances if u.label(name) == wanted]
        return Corpus(utterances)
