"""A store that several jobs encode: which utterances each takes, and where it keeps them until they are merged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.layout import HEADER

PARTS = "parts"
"""In the folder of the store: one ordinary store for each part, until they are merged."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """One of the parts of a store, counted from 1.

    >>> Part.parse("2/3").share(["a", "b", "c", "d", "e", "f", "g", "h"])
    ['b', 'e', 'h']
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """`i/n` with i from 1 to n.

        Raises:
            UserError: it is not that.
        """
        if match := re.fullmatch(r"(\d+)/(\d+)", text):
            part = cls(int(match[1]), int(match[2]))
            if 1 <= part.number <= part.count:
                return part
        raise UserError(
            f"field 'shard' is '{text}'; expected i/n with i from 1 to n, such as 1/4, or merge (number the tasks of a "
            "SLURM array from 1: --array=1-4)"
        )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def folder(self, store: Path) -> Path:
        """Where this part of a store is encoded."""
        return store / PARTS / f"{self.number}-of-{self.count}"

    def share(self, longest_first: Sequence[Item]) -> list[Item]:
        """Every n-th of them: each part gets as many long clips as the others."""
        return list(longest_first[self.number - 1 :: self.count])

    def check_place(self, store: Path) -> None:
        """Refuse to encode this part where it could not be merged.

        Raises:
            UserError: the store was begun as a whole, or in another number of parts.
        """
        if (store / HEADER).is_file() and not (store / PARTS).is_dir():
            raise UserError(
                f"feature store {store} is half encoded as a whole and takes no parts; name another store, or encode "
                "without --shard"
            )
        if others := sorted({part.count for part in parts_of(store)} - {self.count}):
            raise UserError(
                f"{store / PARTS} holds parts of {others[0]}, and this is one of {self.count}; encode with --shard "
                f"i/{others[0]}, or delete that folder"
            )


def parts_of(store: Path) -> list[Part]:
    """The parts that were begun."""
    names = (re.fullmatch(r"(\d+)-of-(\d+)", folder.name) for folder in (store / PARTS).glob("*"))
    found = [Part(int(match[1]), int(match[2])) for match in names if match]
    return sorted(found, key=lambda part: (part.count, part.number))


def check_no_parts(store: Path) -> None:
    """Refuse to encode a store as a whole where its parts wait to be merged.

    Raises:
        UserError: they do.
    """
    if (store / PARTS).is_dir():
        raise UserError(
            f"{store / PARTS} holds parts of feature store {store}; put them together with encode --shard merge, or "
            "delete that folder"
        )
