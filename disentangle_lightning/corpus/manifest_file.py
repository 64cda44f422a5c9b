"""A corpus that is already a manifest."""

from __future__ import annotations

from disentangle_lightning.corpus.manifest import Corpus, read_manifest


class ManifestFile:
    """A corpus reader for a JSONL manifest that somebody wrote.

    Args:
        path: the manifest; audio paths in it are relative to its folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> Corpus:
        """Every utterance of the manifest.

        Raises:
            UserError: see `read_manifest`.
        """
        return Corpus(read_manifest(self.path))
