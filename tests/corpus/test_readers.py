"""Making a reader from settings: what fits its options, and what is refused in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from disentangle_lightning.corpus.manifest import Corpus
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError


class OptionReader:
    """A reader with an option of every kind."""

    def __init__(
        self,
        folder: str,
        count: int | None = None,
        longest: float = 1.0,
        balanced: bool = False,
        names: Sequence[str] | None = ("a",),
        split: Literal["a", "b"] = "a",
        speakers: list[str | int] | None = None,
    ) -> None:
        self.folder = folder

    def read(self) -> Corpus:
        return Corpus([])


def make(**options: Any) -> Any:
    path = f"{OptionReader.__module__}.OptionReader"
    return make_reader({"class_path": path, "init_args": {"folder": "x"} | options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"count": 3},
        {"count": None},
        {"longest": 2},
        {"longest": 2.5},
        {"balanced": True},
        {"names": ["b", "c"]},
        {"names": None},
        {"split": "b"},
        {"speakers": ["03", 8]},
    ],
)
def test_options_of_the_annotated_type_are_taken(options: dict[str, Any]) -> None:
    assert make(**options).folder == "x"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": 3}, "init_args.folder' is 3; expected str"),
        ({"count": "3"}, r"init_args.count' is '3'; expected int \| None"),
        ({"count": True}, r"init_args.count' is True; expected int \| None"),
        ({"longest": "2"}, "init_args.longest' is '2'; expected float"),
        ({"balanced": 1}, "init_args.balanced' is 1; expected bool"),
        ({"names": "b"}, r"init_args.names' is 'b'; expected list\[str\] \| None"),
        ({"names": [1]}, r"init_args.names' is \[1\]; expected list\[str\] \| None"),
        ({"split": "c"}, r"init_args.split' is 'c'; expected Literal\['a', 'b'\]"),
        ({"speakers": [1.5]}, "init_args.speakers"),
        ({"sped": 1}, "reader OptionReader does not take these options: .*sped"),
    ],
)
def test_options_of_another_type_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


def test_a_reader_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UserError, match=r"expected AudioFolder, .*, or the full path of a class"):
        make_reader({"class_path": "AudioFolders"})
