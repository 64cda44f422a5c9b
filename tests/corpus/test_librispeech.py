"""LibriSpeech as its archives unpack: chapters, splits, speakers, and what half an archive lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clip

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.librispeech import LibriSpeech
from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError

SPEAKERS = """\
; Some pieces of information on the speakers.
;
;ID  |SEX| SUBSET           |MINUTES| NAME
60   | M | train-clean-100  | 20.18 | |CBW|Simon
103  | F | train-clean-100  | 25.19 | Karen Savage
1089 | M | test-clean       |  8.03 | Peter Bobbe
"""


def add(folder: Path, subset: str, id: str, text: str, seconds: float = 0.1) -> None:
    speaker, chapter, _ = id.split("-")
    place = folder / subset / speaker / chapter
    write_clip(place / f"{id}.flac", seconds)
    with (place / f"{speaker}-{chapter}.trans.txt").open("a", encoding="utf-8") as file:
        file.write(f"{id} {text}\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    add(root, "train-clean-100", "103-1240-0000", "CHAPTER ONE MISSUS RACHEL LYNDE IS SURPRISED")
    add(root, "train-clean-100", "103-1240-0001", "THAT HAD ITS SOURCE AWAY BACK", seconds=0.3)
    add(root, "train-clean-100", "60-121082-0000", "UNDER THESE CONDITIONS")
    add(root, "dev-other", "116-288045-0000", "AS I APPROACHED THE CITY")
    add(root, "test-clean", "1089-134686-0000", "HE HOPED THERE WOULD BE STEW FOR DINNER")
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    (root / "test-clean/1089/134686/._1089-134686-0000.flac").write_bytes(b"macOS")
    return root


def test_every_field_of_an_utterance(folder: Path) -> None:
    corpus = LibriSpeech(str(folder)).read()
    assert corpus.skipped == []
    audio = folder / "train-clean-100/103/1240/103-1240-0000.flac"
    assert corpus.utterances[0] == Utterance(
        "train-clean-100/103/1240/103-1240-0000", audio, 0.0, None,
        "CHAPTER ONE MISSUS RACHEL LYNDE IS SURPRISED", "103", "train", {"gender": "female"},
    )  # fmt: skip
    assert len(load_utterance(corpus.utterances[0])) == 1600


def test_official_splits_and_genders(folder: Path) -> None:
    found = {u.id.split("/")[-1]: (u.split, u.label("gender")) for u in LibriSpeech(str(folder)).read().utterances}
    assert found == {
        "103-1240-0000": ("train", "female"),
        "103-1240-0001": ("train", "female"),
        "60-121082-0000": ("train", "male"),
        "116-288045-0000": ("dev", None),
        "1089-134686-0000": ("test", "male"),
    }


def test_subsets_lengths_and_numbers_are_chosen(folder: Path) -> None:
    corpus = LibriSpeech(str(folder), ["train-clean-100", "test-clean"], max_seconds=0.2, clips={"train": 1}).read()
    assert [u.split for u in corpus.utterances] == ["train", "test"]
    everything = LibriSpeech(str(folder), max_seconds=0.2).read()
    assert everything.skipped == [
        Skipped("train-clean-100/103/1240/103-1240-0001", "lasts 0.30 s, more than max_seconds 0.2")
    ]


def test_what_half_an_archive_lacks_is_listed(folder: Path) -> None:
    chapter = folder / "train-clean-100/103/1240"
    (chapter / "103-1240-0000.flac").unlink()
    write_clip(chapter / "103-1240-0007.flac")
    with (chapter / "103-1240.trans.txt").open("a") as file:
        file.write("103-1240-0008 \n")
    write_clip(chapter / "103-1240-0008.flac")
    write_clip(folder / "train-clean-100/60/9/60-9-0000.flac")
    reasons = {s.id.split("/")[-1]: s.reason for s in LibriSpeech(str(folder)).read().skipped}
    assert reasons == {
        "103-1240-0000": f"audio file {chapter / '103-1240-0000.flac'} does not exist",
        "103-1240-0007": f"has no transcription in {chapter / '103-1240.trans.txt'}",
        "103-1240-0008": f"has no transcription in {chapter / '103-1240.trans.txt'}",
        "60-9-0000": f"has no transcription in {folder / 'train-clean-100/60/9/60-9.trans.txt'}",
    }


def test_speakers_are_optional(folder: Path) -> None:
    (folder / "SPEAKERS.TXT").unlink()
    assert {tuple(u.labels) for u in LibriSpeech(str(folder)).read().utterances} == {()}


def test_wrong_folders_and_options_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"has no sub-folder such as train-clean-100.*give the folder LibriSpeech itse"):
        LibriSpeech(str(folder.parent)).read()
    with pytest.raises(
        UserError, match=r"has no sub-folder dev-clean; unpack dev-clean.tar.gz there, or name only wha"
    ):
        LibriSpeech(str(folder), ["dev-clean"]).read()
    with pytest.raises(UserError, match="'subsets' is 'test-clean'; expected a list"):
        LibriSpeech(str(folder), "test-clean")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"'clips.train' is 0"):
        LibriSpeech(str(folder), clips={"train": 0})
    (folder / "test-clean/1089/134686/1089-134686-0000.flac").unlink()
    for subset in ("train-clean-100", "dev-other"):
        (folder / subset).rename(folder / f"not-{subset}")
    with pytest.raises(UserError, match="no utterance that can be used; the first of 1 problems: audio file"):
        LibriSpeech(str(folder)).read()


def test_settings_make_the_reader(folder: Path) -> None:
    arguments = {"folder": str(folder), "subsets": ["test-clean"], "max_seconds": 14, "clips": {"test": 1000}}
    assert len(make_reader({"class_path": "LibriSpeech", "init_args": arguments}).read().utterances) == 1
