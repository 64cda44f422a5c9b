"""Utterance ids as file names."""

from __future__ import annotations

from urllib.parse import quote


def file_stem(id: str) -> str:
    """A file name for an id: itself where that is safe, else percent-encoded; different ids never collide.

    >>> file_stem("test/0_george")
    'test%2F0_george'
    """
    return quote(id, safe=" ")
