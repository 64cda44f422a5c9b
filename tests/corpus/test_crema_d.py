"""CREMA-D: the repository's layout, its misnamed and faulty files, and the table of actors."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clips

from disentangle_lightning.corpus.crema_d import CREMAD
from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.errors import UserError

# As in the repository: numbers bare, words in quotes.
TABLE = """\
"ActorID","Age","Sex","Race","Ethnicity"
1001,51,"Male","Caucasian","Not Hispanic"
1040,42,"Male","Caucasian","Not Hispanic"
1047,22,"Female","Unknown","Hispanic"
1064,53,"Male","Caucasian","Not Hispanic"
1076,25,"Female","Caucasian","Not Hispanic"
"""


def repository(folder: Path, *names: str) -> Path:
    write_clips(folder, *[f"AudioWAV/{name}.wav" for name in names])
    (folder / "AudioMP3").mkdir()
    (folder / "AudioMP3" / f"{names[0]}.mp3").write_bytes(b"ID3")
    (folder / "VideoDemographics.csv").write_text(TABLE)
    return folder


def test_every_field_comes_from_the_name_and_the_table(tmp_path: Path) -> None:
    utterances = CREMAD(str(repository(tmp_path, "1001_DFA_ANG_XX", "1047_IEO_HAP_LO"))).read().utterances
    first = {
        "emotion": "angry", "intensity": "unspecified", "sentence": "DFA",
        "gender": "male", "age": "51", "race": "Caucasian", "ethnicity": "Not Hispanic",
    }  # fmt: skip
    second = {
        "emotion": "happy", "intensity": "low", "sentence": "IEO",
        "gender": "female", "age": "22", "ethnicity": "Hispanic",
    }  # fmt: skip
    audio = [tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav", tmp_path / "AudioWAV/1047_IEO_HAP_LO.wav"]
    assert utterances == [
        Utterance(
            "AudioWAV/1001_DFA_ANG_XX", audio[0], 0.0, None, "Don't forget a jacket.", "1001", None, first
        ),
        Utterance("AudioWAV/1047_IEO_HAP_LO", audio[1], 0.0, None, "It's eleven o'clock.", "1047", None, second),
    ]  # fmt: skip


def test_the_folder_of_sounds_alone_will_do_and_finds_the_table_beside_it(tmp_path: Path) -> None:
    repository(tmp_path, "1001_DFA_ANG_XX")
    (utterance,) = CREMAD(str(tmp_path / "AudioWAV")).read().utterances
    assert (utterance.id, utterance.labels["gender"]) == ("1001_DFA_ANG_XX", "male")
    (tmp_path / "VideoDemographics.csv").unlink()
    (utterance,) = CREMAD(str(tmp_path / "AudioWAV")).read().utterances
    assert utterance.labels == {"emotion": "angry", "intensity": "unspecified", "sentence": "DFA"}


def test_the_archives_faults_are_known(tmp_path: Path) -> None:
    corpus = CREMAD(
        str(repository(tmp_path, "1040_ITH_SAD_X", "1076_MTI_SAD_XX", "1064_IEO_DIS_MD", "1064_IEO_DIS_HI"))
    ).read()
    assert {(u.id, u.labels["intensity"]) for u in corpus.utterances} == {
        ("AudioWAV/1040_ITH_SAD_X", "unspecified"),
        ("AudioWAV/1064_IEO_DIS_HI", "high"),
    }
    assert set(corpus.skipped) == {
        Skipped("AudioWAV/1076_MTI_SAD_XX", "known to hold no speech"),
        Skipped("AudioWAV/1064_IEO_DIS_MD", "known to hold a minute with every emotion"),
    }


def test_a_clone_without_lfs_says_what_to_do(tmp_path: Path) -> None:
    pointer = tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav"
    pointer.parent.mkdir()
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 71000\n")
    with pytest.raises(UserError, match=r"the first of 1 problems: .*Git LFS pointer; run `git lfs pull`"):
        CREMAD(str(tmp_path)).read()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "has no column 'ActorID'"),
        ('"ActorID","Age"\n1001,51\n', "has no column 'Sex'"),
        (TABLE.replace("1001", "1002"), "has no ActorID 1001"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, table: str, message: str) -> None:
    repository(tmp_path, "1001_DFA_ANG_XX")
    (tmp_path / "VideoDemographics.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        CREMAD(str(tmp_path)).read()


def test_test_speakers_may_be_numbers(tmp_path: Path) -> None:
    repository(tmp_path, "1001_DFA_ANG_XX", "1047_DFA_ANG_XX")
    utterances = CREMAD(str(tmp_path), test_speakers=[1047]).read().utterances
    assert [(u.speaker, u.split) for u in utterances] == [("1001", "train"), ("1047", "test")]


def test_a_wrong_folder_is_named_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no sound file named as in CREMA-D; .* AudioWAV/1001_DFA_ANG_XX\.wav"):
        CREMAD(str(tmp_path)).read()
