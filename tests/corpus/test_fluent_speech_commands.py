"""Fluent Speech Commands in its published layout: three tables, a table of speakers, one folder a speaker."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clip

from disentangle_lightning.corpus.fluent_speech_commands import FluentSpeechCommands
from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.errors import UserError

HEADER = ",path,speakerId,transcription,action,object,location\n"
DEMOGRAPHICS = """\
speakerId,Self-reported fluency level ,First Language spoken,Current language used for work/school,gender,ageRange
2BqVo8kVB2Skwgyb,native,English (United States),English (United States),female,22-40
4BrX8aDqK2cLZRYl,advanced,"Spanish, Mexico",English,male,65+
"""
ANNA, BORIS = "2BqVo8kVB2Skwgyb", "4BrX8aDqK2cLZRYl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "fluent_speech_commands_dataset"
    (root / "data").mkdir(parents=True)
    rows = {
        "train": [
            (ANNA, "a1", "Change language", "change language,none,none"),
            (ANNA, "a2", '"Resume, please"', "activate,music,none"),
        ],
        "valid": [(BORIS, "b1", "Turn on the lights", "activate,lights,kitchen")],
        "test": [("unknown", "c1", "Pause", "deactivate,music,none")],
    }
    for subset, lines in rows.items():
        table = HEADER
        for number, (speaker, name, text, intent) in enumerate(lines):
            path = f"wavs/speakers/{speaker}/{name}.wav"
            write_clip(root / path)
            table += f"{number},{path},{speaker},{text},{intent}\n"
        (root / "data" / f"{subset}_data.csv").write_text(table)
    (root / "data" / "speaker_demographics.csv").write_text(DEMOGRAPHICS)
    return root


def test_every_field_of_an_utterance(folder: Path) -> None:
    corpus = FluentSpeechCommands(str(folder)).read()
    assert corpus.skipped == []
    assert corpus.utterances[2] == Utterance(
        f"wavs/speakers/{BORIS}/b1", folder / f"wavs/speakers/{BORIS}/b1.wav", 0.0, None,
        "Turn on the lights", BORIS, "dev",
        {
            "intent": "activate-lights-kitchen", "action": "activate", "object": "lights", "location": "kitchen",
            "gender": "male", "age": "65+", "first_language": "Spanish, Mexico", "fluency": "advanced",
        },
    )  # fmt: skip


def test_splits_quoted_words_and_a_speaker_nobody_described(folder: Path) -> None:
    utterances = FluentSpeechCommands(str(folder)).read().utterances
    assert [(u.split, u.transcription) for u in utterances] == [
        ("train", "Change language"), ("train", "Resume, please"), ("dev", "Turn on the lights"), ("test", "Pause"),
    ]  # fmt: skip
    assert utterances[0].labels["intent"] == "change language-none-none"
    assert set(utterances[3].labels) == {"intent", "action", "object", "location"}
    (folder / "data" / "speaker_demographics.csv").unlink()
    assert FluentSpeechCommands(str(folder)).read().utterances[2].label("gender") is None


def test_missing_files_and_words_are_listed(folder: Path) -> None:
    (folder / f"wavs/speakers/{ANNA}/a1.wav").unlink()
    table = folder / "data/valid_data.csv"
    table.write_text(table.read_text().replace("Turn on the lights", " "))
    corpus = FluentSpeechCommands(str(folder)).read()
    assert [u.id.split("/")[-1] for u in corpus.utterances] == ["a2", "c1"]
    assert corpus.skipped == [
        Skipped(f"wavs/speakers/{ANNA}/a1", f"audio file {folder}/wavs/speakers/{ANNA}/a1.wav does not exist"),
        Skipped(f"wavs/speakers/{BORIS}/b1", f"has no transcription in {table}"),
    ]


def test_a_relative_folder_is_the_same_corpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert FluentSpeechCommands(".").read() == FluentSpeechCommands(str(folder)).read()


def test_wrong_folders_and_tables_are_named(folder: Path) -> None:
    for wrong in (folder.parent, folder / "data"):
        with pytest.raises(UserError, match=r"give the folder itself to which the archive unpacks"):
            FluentSpeechCommands(str(wrong)).read()
    table = folder / "data/test_data.csv"
    table.write_text(HEADER + "0,wavs/speakers/x/1.wav,x,Pause\n")
    with pytest.raises(UserError, match=r"test_data.csv, row 1: expected the columns path, speakerId"):
        FluentSpeechCommands(str(folder)).read()
    table.unlink()
    with pytest.raises(UserError, match=r"has no data/train_data.csv, data/valid_data.csv and"):
        FluentSpeechCommands(str(folder)).read()
