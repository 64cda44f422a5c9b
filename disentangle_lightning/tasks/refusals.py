"""What LightningCLI and jsonargparse refuse, as one sentence that names the field and how to give it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from disentangle_lightning.errors import UserError

OPEN = "???"
"""A field that its settings file leaves to whoever runs it, as OmegaConf writes it."""


def refusal(error: argparse.ArgumentError) -> UserError:
    """What the parser says, in our words where a field is missing, else in its own on one line."""
    text = " ".join(str(error).split())
    inside_model = "Problem with given class_path" in text
    if required := re.search(r"arguments are required: (.+?)(?: - Expected|$)", text):
        names = required[1].split(", ")
        if not inside_model:
            names = [name.partition(".")[2] for name in names]  # the parser puts the verb before each
    else:  # a field that is open, and of another type than text
        names = re.findall(r'Parser key "([\w.]+)": Expected [^"]*Got value: \?\?\?', text)
    if not names:
        return UserError(text)
    return _missing([f"model.init_args.{name}" if inside_model else name for name in names])


def check_complete(settings: Mapping[str, Any]) -> None:
    """Refuse flat settings, {dotted name: value}, of which some are still open.

    Raises:
        UserError: naming them.
    """
    if names := [name for name, value in settings.items() if value == OPEN]:
        raise _missing(names)


def user_error_behind(error: BaseException | None) -> UserError | None:
    """The UserError that an exception was raised from, through however many others."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _missing(names: Sequence[str]) -> UserError:
    if len(names) == 1:
        return UserError(f"field '{names[0]}' is missing; give it in the settings file or as --{names[0]}")
    flags = ", ".join(f"--{name}" for name in names)
    return UserError(f"{len(names)} fields are missing; give them in the settings file or as {flags}")
