"""Emo-DB: the archive's layout, German letters, and codes nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clips

from disentangle_lightning.corpus.emo_db import EmoDB
from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.errors import UserError


def archive(folder: Path, *names: str) -> Path:
    """As download.zip unpacks: sound files beside label files and two texts."""
    write_clips(folder, *[f"wav/{name}.wav" for name in names])
    for part in ("lablaut", "labsilb", "silb"):
        (folder / part).mkdir()
        (folder / part / f"{names[0]}.{part}").write_text("0.1 121 x\n", encoding="latin-1")
    (folder / "erklaerung.txt").write_text("Erklärung", encoding="latin-1")
    return folder


def test_every_field_comes_from_the_name(tmp_path: Path) -> None:
    utterances = EmoDB(str(archive(tmp_path, "03a01Fa", "08a05Lb"))).read().utterances
    happy = {"emotion": "happy", "gender": "male", "age": "31", "sentence": "a01"}
    bored = {"emotion": "bored", "gender": "female", "age": "34", "sentence": "a05"}
    long = "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück."
    short = "Der Lappen liegt auf dem Eisschrank."
    assert utterances == [
        Utterance("wav/03a01Fa", tmp_path / "wav/03a01Fa.wav", 0.0, None, short, "03", None, happy),
        Utterance("wav/08a05Lb", tmp_path / "wav/08a05Lb.wav", 0.0, None, long, "08", None, bored),
    ]


def test_letters_stand_for_german_words(tmp_path: Path) -> None:
    archive(tmp_path, *[f"11b03{letter}c" for letter in "WLEAFTN"])
    emotions = {u.id[-2]: u.labels["emotion"] for u in EmoDB(str(tmp_path)).read().utterances}
    assert emotions == {
        "W": "angry", "L": "bored", "E": "disgusted", "A": "fearful", "F": "happy", "T": "sad", "N": "neutral",
    }  # fmt: skip


def test_unknown_codes_are_skipped_with_their_reason(tmp_path: Path) -> None:
    corpus = EmoDB(str(archive(tmp_path, "03a01Fa", "03c01Fa", "03a01Xa", "99a01Fa", "noise"))).read()
    reasons = {s.id: s.reason for s in corpus.skipped}
    assert [u.id for u in corpus.utterances] == ["wav/03a01Fa"]
    assert reasons.keys() == {"wav/03c01Fa", "wav/03a01Xa", "wav/99a01Fa", "wav/noise"}
    assert reasons["wav/03c01Fa"].startswith("sentence 'c01' is unknown; expected one of a01, ")
    assert reasons["wav/03a01Xa"].startswith("emotion 'X' is unknown; expected one of W, ")
    assert reasons["wav/99a01Fa"].startswith("speaker '99' is unknown; expected one of 03, ")
    assert Skipped("wav/noise", "file name is not of Emo-DB, as wav/03a01Fa.wav is") in corpus.skipped


def test_speakers_are_named_as_yaml_reads_them(tmp_path: Path) -> None:
    archive(tmp_path, "03a01Fa", "08a01Fa", "10a01Fa")
    utterances = EmoDB(str(tmp_path), test_speakers=[3, "08"]).read().utterances
    assert [(u.speaker, u.split) for u in utterances] == [("03", "test"), ("08", "test"), ("10", "train")]


def test_a_wrong_folder_is_named_with_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "lablaut").mkdir()
    with pytest.raises(UserError, match=r"no sound file named as in Emo-DB; .* wav/03a01Fa\.wav"):
        EmoDB(str(tmp_path)).read()
