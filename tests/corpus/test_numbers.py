"""Numbers become labels in quartiles of those who train; nobody else moves an edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from tiny_pipeline import RATE, tone

from disentangle_lightning.corpus import numbers
from disentangle_lightning.corpus.manifest import Corpus, Utterance
from disentangle_lightning.corpus.numbers import read_numbers
from disentangle_lightning.corpus.prepare import prepare
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.targets import check_learnable
from disentangle_lightning.settings import SplitSettings

PITCHES = {"train": [100, 150, 200, 250, 300, 350, 400, 450], "probe": [90, 210], "dev": [160], "test": [330, 500]}
"""In Hz. Of those that train, the quartiles end at 150, 250 and 350 Hz."""


@pytest.fixture
def tones(tmp_path: Path) -> list[Utterance]:
    """A steady tone of each pitch, and noise without one that trains."""
    found = []
    for split, pitches in PITCHES.items():
        for pitch in pitches:
            soundfile.write(tmp_path / f"{pitch}.wav", tone(0.4, pitch, tremolo=0), RATE)
            found.append(Utterance(str(pitch), tmp_path / f"{pitch}.wav", split=split, labels={"mood": "calm"}))
    return found


def aged(ages: dict[str, str], split: str | None = "train") -> list[Utterance]:
    return [
        Utterance(id, Path("none.wav"), transcription="yes", split=split, labels={"age": age} if age else {})
        for id, age in ages.items()
    ]


def classes(utterances: Sequence[Utterance], name: str) -> dict[str, str | None]:
    return {u.id: u.label(name) for u in utterances}


def test_tones_of_known_pitch_fall_in_the_quartiles_of_those_that_train(tones: list[Utterance], tmp_path: Path) -> None:
    found = read_numbers(tones, ["pitch"], tmp_path / "praat.jsonl")
    assert found.edges(tones)["pitch"] == pytest.approx([150, 250, 350], rel=0.01)
    labelled = found.as_labels(tones)
    assert classes(labelled, "pitch") == {
        "100": "q1", "150": "q1", "200": "q2", "250": "q2", "300": "q3", "350": "q3", "400": "q4", "450": "q4",
        "90": "q1", "210": "q2", "160": "q2", "330": "q3", "500": "q4",
    }  # fmt: skip
    assert {u.label("mood") for u in labelled} == {"calm"}
    assert found.describe(tones)["pitch"]["of"] == "mean pitch (Hz)"

    # Who is tested may sound like anything: the edges stay. Who trains moves them.
    of_test = {u.id: {"pitch": 9999.0} for u in tones if u.split != "train"}
    assert replace(found, values={**found.values, **of_test}).edges(tones) == found.edges(tones)
    of_train = {u.id: {"pitch": 9999.0} for u in tones if u.split == "train"}
    assert replace(found, values={**found.values, **of_train}).edges(tones) == {"pitch": []}


def test_a_clip_without_voice_and_one_that_cannot_be_read_have_no_pitch(tones: list[Utterance], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone(0.02), RATE)
    odd = [Utterance(name, tmp_path / f"{name}.wav", split="test") for name in ("short", "missing")]
    found = read_numbers([*tones, *odd], ["pitch", "length"], tmp_path / "praat.jsonl")
    labelled = found.as_labels([*tones, *odd])[-2:]
    assert classes(labelled, "pitch") == {"short": None, "missing": None}
    assert classes(labelled, "length") == {"short": "q1", "missing": None}


def test_numbers_of_the_corpus_need_no_sound(tmp_path: Path) -> None:
    utterances = aged({"a": "20.5", "b": "31", "c": "44", "d": "60", "e": "nan", "f": ""})
    found = read_numbers(utterances, ["age"], tmp_path / "praat.jsonl")
    assert not (tmp_path / "praat.jsonl").exists()
    assert found.edges(utterances) == {"age": [20.5, 31, 44]}
    labelled = classes(found.as_labels(utterances), "age")
    assert labelled == {"a": "q1", "b": "q2", "c": "q3", "d": "q4", "e": None, "f": None}


def test_a_label_of_the_corpus_goes_before_the_measure_of_its_name(tmp_path: Path) -> None:
    utterances = [replace(u, labels={"pitch": u.labels["age"]}) for u in aged({"a": "1", "b": "2"})]
    assert read_numbers(utterances, ["pitch"], tmp_path / "praat.jsonl").edges(utterances) == {"pitch": [1]}


def test_what_is_no_number_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(numbers, "measure_corpus", None)
    with pytest.raises(UserError, match=r"names 'loudness'.* corpus \(age\) nor a measure of Praat \(pitch, .*length"):
        read_numbers(aged({"a": "1"}), ["loudness"], tmp_path / "praat.jsonl")
    with pytest.raises(UserError, match="utterance 'b': label 'age' is 'old', which is no number"):
        read_numbers(aged({"a": "1", "b": "old"}), ["age", "pitch"], tmp_path / "praat.jsonl")


def test_splits_are_chosen_and_checked_with_the_classes_that_they_decide(tmp_path: Path) -> None:
    """Of ten speakers, each of one age, all splits can be made without sharing any; `auto` must find that out."""
    utterances = [
        replace(u, id=f"{i} {u.id}", speaker=u.id, transcription=f"word {'a' * i}")
        for i in range(6)
        for u in aged({f"s{n}": str(20 + n) for n in range(10)}, split=None)
    ]
    found = read_numbers(utterances, ["age"], tmp_path / "praat.jsonl")
    seen = []

    def check(divided: Sequence[Utterance]) -> None:
        seen.append({u.label("age") for u in divided})
        check_learnable(divided, ["age"], ["age"], transcribed=True)

    corpus, _ = prepare(Corpus(utterances), SplitSettings(), check=check, numbers=found)
    assert seen
    assert all(ages <= {"q1", "q2", "q3", "q4"} for ages in seen)
    sides = [{u.speaker for u in corpus.utterances if u.split == split} for split in ("train", "test")]
    assert sides[0].isdisjoint(sides[1])
    trained = [u for u in corpus.utterances if u.split == "train"]
    assert found.edges(corpus.utterances) == found.edges(trained)
    check_learnable(corpus.utterances, ["age"], ["age"], transcribed=True)
