"""TESS: both layouts it is found in, and the file that is misnamed in the archive."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clips

from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.corpus.tess import TESS
from disentangle_lightning.errors import UserError


def test_every_field_comes_from_the_name_in_one_folder(tmp_path: Path) -> None:
    write_clips(tmp_path, "OAF_back_angry.wav", "YAF_neat_ps.wav", rate=24_414)
    older = {"emotion": "angry", "gender": "female", "age": "64"}
    younger = {"emotion": "surprised", "gender": "female", "age": "26"}
    assert TESS(str(tmp_path)).read().utterances == [
        Utterance(
            "OAF_back_angry", tmp_path / "OAF_back_angry.wav", 0.0, None, "Say the word back", "OAF", None, older
        ),
        Utterance("YAF_neat_ps", tmp_path / "YAF_neat_ps.wav", 0.0, None, "Say the word neat", "YAF", None, younger),
    ]


def test_folders_of_emotions_in_any_spelling_and_twice(tmp_path: Path) -> None:
    inner = "TESS Toronto emotional speech set data"
    names = [
        "OAF_Fear/OAF_dog_fear.wav",
        "OAF_Pleasant_surprise/OAF_dog_ps.wav",
        "OAF_disgust/OAF_dog_disgust.wav",
        "OAF_neutral/OA_bite_neutral.wav",
        "YAF_happy/YAF_dog_happy.wav",
        "YAF_pleasant_surprised/YAF_dog_ps.wav",
        "YAF_sad/YAF_dog_sad.wav",
    ]
    write_clips(tmp_path, *names, f"{inner}/{names[0]}", "YAF_sad/notes.wav")
    corpus = TESS(str(tmp_path)).read()
    assert {(u.id, u.speaker, u.labels["emotion"]) for u in corpus.utterances} == {
        (names[0].removesuffix(".wav"), "OAF", "fearful"),
        (names[1].removesuffix(".wav"), "OAF", "surprised"),
        (names[2].removesuffix(".wav"), "OAF", "disgusted"),
        (names[3].removesuffix(".wav"), "OAF", "neutral"),
        (names[4].removesuffix(".wav"), "YAF", "happy"),
        (names[5].removesuffix(".wav"), "YAF", "surprised"),
        (names[6].removesuffix(".wav"), "YAF", "sad"),
    }
    assert corpus.skipped == [
        Skipped("YAF_sad/notes", f"file name is not of TESS, as {TESS.expected} is"),
        Skipped(f"{inner}/OAF_Fear/OAF_dog_fear", "the same clip as 'OAF_Fear/OAF_dog_fear'"),
    ]


def test_one_speaker_is_tested(tmp_path: Path) -> None:
    write_clips(tmp_path, "OAF_back_angry.wav", "YAF_back_angry.wav")
    utterances = TESS(str(tmp_path), test_speakers=["YAF"]).read().utterances
    assert [(u.speaker, u.split) for u in utterances] == [("OAF", "train"), ("YAF", "test")]


def test_a_wrong_folder_is_named_with_what_is_expected(tmp_path: Path) -> None:
    write_clips(tmp_path, "angry.wav")
    with pytest.raises(UserError, match=r"no sound file named as in TESS; .* OAF_angry/OAF_back_angry\.wav"):
        TESS(str(tmp_path)).read()
