"""How far an analysis has come, for whoever watches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """The items, with a bar on standard error if that is a terminal. Not around trainings, which show their own."""
    console = Console(stderr=True)
    yield from rich_track(items, description, console=console, transient=True, disable=not console.is_terminal)
