"""RAVDESS, and what all readers of acted emotion share: files found anywhere, choice of emotions, test speakers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from clips import write_clips

from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.corpus.ravdess import RAVDESS
from disentangle_lightning.errors import UserError


def test_every_field_comes_from_the_name(tmp_path: Path) -> None:
    write_clips(tmp_path, "Actor_01/03-01-05-02-01-02-01.wav", "Actor_12/03-01-01-01-02-01-12.wav", rate=48_000)
    corpus = RAVDESS(str(tmp_path)).read()
    angry = {"emotion": "angry", "intensity": "strong", "gender": "male", "sentence": "kids"}
    neutral = {"emotion": "neutral", "intensity": "normal", "gender": "female", "sentence": "dogs"}
    audio = [tmp_path / "Actor_01/03-01-05-02-01-02-01.wav", tmp_path / "Actor_12/03-01-01-01-02-01-12.wav"]
    texts = ["Kids are talking by the door.", "Dogs are sitting by the door."]
    assert corpus.utterances == [
        Utterance("Actor_01/03-01-05-02-01-02-01", audio[0], 0.0, None, texts[0], "Actor_01", None, angry),
        Utterance("Actor_12/03-01-01-01-02-01-12", audio[1], 0.0, None, texts[1], "Actor_12", None, neutral),
    ]
    assert corpus.skipped == []


def test_all_eight_emotions_have_words(tmp_path: Path) -> None:
    write_clips(tmp_path, *[f"Actor_01/03-01-0{e}-01-01-01-01.wav" for e in range(1, 9)])
    assert [u.labels["emotion"] for u in RAVDESS(str(tmp_path)).read().utterances] == [
        "neutral", "calm", "happy", "sad", "angry", "fearful", "disgusted", "surprised",
    ]  # fmt: skip


def test_what_is_no_clip_of_speech_is_skipped_with_its_reason(tmp_path: Path) -> None:
    write_clips(
        tmp_path,
        "Actor_01/03-01-01-01-01-01-01.wav",
        "Actor_01/03-02-01-01-01-01-01.wav",  # from Audio_Song_Actors_01-24.zip, which unpacks to the same folders
        "Actor_01/03-01-09-01-01-01-01.wav",
        "audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav",  # a mirror packs everything twice
    )
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (tmp_path / "Actor_01/03-01-02-01-01-01-01.wav").write_text(pointer)
    (tmp_path / "Actor_01/03-01-03-01-01-01-01.wav").touch()
    (tmp_path / "Actor_01/._03-01-01-01-01-01-01.wav").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/03-01-04-01-01-01-01.wav").write_bytes(b"x")
    (tmp_path / "Actor_01/.DS_Store").write_bytes(b"x")
    (tmp_path / "Actor_01/01-01-01-01-01-01-01.mp4").write_bytes(b"x")
    corpus = RAVDESS(str(tmp_path)).read()
    first = "Actor_01/03-01-01-01-01-01-01"
    assert [u.id for u in corpus.utterances] == [first]
    lfs = "sound file is only a Git LFS pointer; run `git lfs pull` in its repository"
    assert set(corpus.skipped) == {
        Skipped("Actor_01/03-02-01-01-01-01-01", "sung, not spoken"),
        Skipped("Actor_01/03-01-09-01-01-01-01", f"file name is not of RAVDESS, as {RAVDESS.expected} is"),
        Skipped(f"audio_speech_actors_01-24/{first}", f"the same clip as '{first}'"),
        Skipped("Actor_01/03-01-02-01-01-01-01", lfs),
        Skipped("Actor_01/03-01-03-01-01-01-01", "sound file is empty"),
    }


def unbalanced(folder: Path) -> Path:
    """Two actors, each with 1 neutral, 3 happy and 2 angry clips."""
    names = [
        f"Actor_{actor}/03-01-{emotion}-01-{take}-{actor}.wav"
        for actor in ("01", "02")
        for emotion, takes in {"01": 1, "03": 3, "05": 2}.items()
        for take in ("01-01", "01-02", "02-01")[:takes]
    ]
    write_clips(folder, *names)
    return folder


def test_emotions_are_chosen_and_the_others_listed(tmp_path: Path) -> None:
    corpus = RAVDESS(str(unbalanced(tmp_path)), emotions=["happy", "neutral"]).read()
    assert Counter(u.labels["emotion"] for u in corpus.utterances) == {"happy": 6, "neutral": 2}
    assert Counter(s.reason for s in corpus.skipped) == {"emotion 'angry' is not wanted": 4}


def test_balanced_keeps_as_many_of_each_as_the_rarest_has_and_always_the_same(tmp_path: Path) -> None:
    folder = str(unbalanced(tmp_path))
    corpus = RAVDESS(folder, balanced=True).read()
    assert Counter(u.labels["emotion"] for u in corpus.utterances) == {"happy": 2, "neutral": 2, "angry": 2}
    assert Counter(s.reason for s in corpus.skipped) == {"left out so that every emotion has 2": 6}
    assert RAVDESS(folder, balanced=True).read() == corpus
    chosen = RAVDESS(folder, emotions=["happy", "angry"], balanced=True).read()
    assert Counter(u.labels["emotion"] for u in chosen.utterances) == {"happy": 4, "angry": 4}


def test_test_speakers_become_test_and_the_others_train(tmp_path: Path) -> None:
    utterances = RAVDESS(str(unbalanced(tmp_path)), test_speakers=["Actor_02"]).read().utterances
    assert {(u.speaker, u.split) for u in utterances} == {("Actor_01", "train"), ("Actor_02", "test")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emotions": ["joy"]}, r"field 'emotions' is \['joy'\]; expected some of angry, calm, "),
        ({"emotions": []}, r"field 'emotions' is \[\]; expected some of "),
        ({"test_speakers": [2]}, "field 'test_speakers' names '02'; the speakers are Actor_01, Actor_02"),
        ({"emotions": ["calm"]}, "no utterance that can be used; the first of 12 problems: emotion "),
    ],
)
def test_options_that_do_not_fit_the_corpus_are_one_sentence(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        RAVDESS(str(unbalanced(tmp_path)), **options).read()


def test_a_wrong_folder_is_named_with_what_is_expected(tmp_path: Path) -> None:
    write_clips(tmp_path, "03a01Fa.wav")
    with pytest.raises(UserError, match=r"has no sound file named as in RAVDESS; give the folder .* Actor_01/03-01-"):
        RAVDESS(str(tmp_path)).read()
    with pytest.raises(UserError, match=r"none does not exist$"):
        RAVDESS(str(tmp_path / "none")).read()
