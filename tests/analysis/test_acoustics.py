"""The acoustics of a run are probed in quartiles that were cut on the split that trains the probes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_pipeline import command, finished_run, write_corpus

from disentangle_lightning.analysis.acoustics import unreadable
from disentangle_lightning.corpus.manifest import Utterance, read_manifest
from disentangle_lightning.corpus.praat import MEASURES
from disentangle_lightning.report.analysis_result import read_result


def test_acoustics_of_a_run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run(tmp_path_factory), run, symlinks=True)
    write_corpus(tmp_path / "corpus")
    status, errors = command("analyze", "acoustics", run, "--factors", "[emotion, breath]")
    assert status == 0, errors
    result = read_result(run / "analysis" / "acoustics")

    labelled = read_manifest(run / "manifest_acoustics.jsonl")
    assert [(u.id, u.split) for u in labelled] == [(u.id, u.split) for u in read_manifest(run / "manifest.jsonl")]
    # Tones of speaker s0 are at 200 Hz, those of s1 at 300 Hz.
    heard = {(u.label("pitch"), u.speaker) for u in labelled if u.split != "train"}
    assert {speaker for bin, speaker in heard if bin == "q1"} == {"s0"}
    assert {speaker for bin, speaker in heard if bin == "q4"} == {"s1"}
    assert min(heard)[1] == "s0"
    assert max(heard)[1] == "s1"
    assert not any(u.label("pitch") for u in labelled if u.split == "train")

    read = {name.split(".")[2] for name in result.measurements}
    assert read <= {*MEASURES, "emotion"}
    assert {"pitch", "intensity", "length", "emotion"} <= read
    for representation in ("hidden", "textual", "acoustic_emotion", "duration"):
        pitch = result.measurements[f"acoustics.{representation}.pitch.leakage"]
        assert pitch.ci_low is not None
        assert pitch.ci_low <= pitch.value
    # Only the clip's length itself tells its length for certain, in as many frames.
    assert result.measurements["acoustics.duration.length.accuracy"].value > 0.7
    assert any(note.startswith("Not read: breath (no clip has it)") for note in result.notes)
    heat_map = result.drawings[0].svg
    assert 'id="acoustics-' in heat_map
    assert "mean pitch (Hz)" in heat_map


@pytest.mark.parametrize(
    ("probe", "dev", "test", "why"),
    [
        ("ab", "a", "b", None),
        ("ab", "", "b", "no clip of split dev has it"),
        ("ab", "", "", "no clip of split dev and test has it"),
        ("aa", "a", "a", "it is the same in all clips that train probes"),
        ("", "", "", "no clip has it"),
    ],
)
def test_what_no_probe_can_be_made_of(probe: str, dev: str, test: str, why: str | None) -> None:
    utterances = [
        Utterance(f"{split}{i}", Path("a.wav"), split=split, labels={"breath": value})
        for split, values in {"probe": probe, "dev": dev, "test": test}.items()
        for i, value in enumerate(values)
    ]
    encoded = {u.id for u in utterances}
    assert unreadable(utterances, encoded, "breath") == why
    assert unreadable(utterances, set(), "breath") == "no clip has it"
