"""Separate what was said from how it was said in frozen speech encoders."""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers take it for typing's, which costs an import
if TYPE_CHECKING:
    from typing import Any

    from disentangle_lightning.encoder import DisentangledEncoder

__all__ = ["DisentangledEncoder", "__version__"]


def __getattr__(name: str) -> Any:
    """`DisentangledEncoder` on first use, so that the package and its `--help` load without torch."""
    if name == "DisentangledEncoder":
        from disentangle_lightning.encoder import DisentangledEncoder

        return DisentangledEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
