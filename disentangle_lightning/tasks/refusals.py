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
    """What the parser says, in our words where we know what it means, else in its own on one line."""
    text = " ".join(str(error).split())
    inside_model = "Problem with given class_path" in text
    if required := re.search(r"arguments are required: (.+?)(?: - Expected|$)", text):
        names = required[1].split(", ")
        if not inside_model:
            names = [name.partition(".")[2] for name in names]  # the parser puts the verb before each
    else:  # a field that is open, and of another type than text
        names = re.findall(r'Parser key "([\w.]+)": Expected [^"]*Got value: \?\?\?', text)
    if not names:
        return UserError(_misfit(text) or text)
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


def _misfit(text: str) -> str | None:
    """What does not fit where, in a sentence; None where the parser says something else."""
    if file := re.match(r"Parser key \"config\": File does not exist: '(.*)'", text):
        return f"settings file {file[1]} does not exist"
    outer = re.match(r'Parser key "([\w.]+)": (.*)', text)
    if outer is None:
        return None
    field, said = outer.groups()
    if inside := re.search(r"Problem with given class_path '([\w.]+)': (.*)", said):
        path, said = inside[1], re.split(_NEXT_TRY, inside[2])[0]
        if option := re.match(r"Option '([\w.]+)' is not accepted", said):
            return f"field '{field}.init_args.{option[1]}' is unknown; {path} has no such option"
        if "has no attribute" in said:
            return f"field '{field}.class_path' is '{path}', which does not exist"
        inner = re.match(r'Parser key "([\w.]+)": (.*)', said)
        if inner is None:
            return None
        field, said = f"{field}.init_args.{inner[1]}", inner[2]
    if path := re.search(r"Expected a dot import path string: (\S+)", said):
        return f"field '{field}.class_path' is '{path[1]}'; expected the full path of a class"
    value = re.search(r".*(?:Got|Given) value: (.*)", said)
    expected = re.search(r"Subtypes: \[(.*?)\] Errors:", said) or re.search(r"Expected an? (.*?)\. Got value", said)
    if value is None or expected is None:
        return None
    return f"field '{field}' is {value[1]!r}; expected {_kinds(expected[1])}"


_NEXT_TRY = r" - Problem with given class_path | - Expected a <class 'NoneType'> Given value type: <class 'jsonargparse"
"""Where the parser goes on to the next type that a class's place might hold."""


def _kinds(types: str) -> str:
    """Python's types in the words of YAML: `<class 'int'>, <class 'NoneType'>` is `int or null`."""
    names = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", types).replace("NoneType", "null")
    names = re.sub(r"(?:\w+\.)+(?=\w)", "", re.sub(r"typing\.Literal\[(.*?)\]", r"\1", names))
    before, comma, last = names.rpartition(", ")
    return f"{before} or {last}" if comma else last


def _missing(names: Sequence[str]) -> UserError:
    if len(names) == 1:
        return UserError(f"field '{names[0]}' is missing; give it in the settings file or as --{names[0]}")
    flags = ", ".join(f"--{name}" for name in names)
    return UserError(f"{len(names)} fields are missing; give them in the settings file or as {flags}")
