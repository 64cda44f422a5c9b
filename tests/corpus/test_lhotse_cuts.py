"""Lhotse cut sets, written by lhotse itself: supervisions become utterances, and the rest is skipped in words."""

from __future__ import annotations

import builtins
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import write_clip
from lhotse import CutSet, MonoCut, MultiCut, Recording, RecordingSet, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.features import Features

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.lhotse_cuts import LhotseCutSet
from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError


def supervision(id: str, start: float = 0.0, duration: float = 1.0, text: str | None = "HELLO", **fields: Any) -> Any:
    return SupervisionSegment(id, "recording", start, duration, text=text, **fields)


def cut(id: str, recording: Recording | None, supervisions: Sequence[Any], start: float = 0.0, **fields: Any) -> Any:
    return MonoCut(id, start, 1.0, 0, recording=recording, supervisions=list(supervisions), **fields)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording.from_file(write_clip(tmp_path / "audio.wav", seconds=2.0))


def write(path: Path, cuts: Sequence[Any]) -> str:
    CutSet.from_cuts(cuts).to_file(path)
    return str(path)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_every_field_of_an_utterance(tmp_path: Path, recording: Recording, name: str) -> None:
    who = supervision(
        "s1", 0.25, 0.5, " HELLO ", speaker="anna", language="English", gender="F",
        custom={"emotion": "sad", "age": 30, "scores": [1, 2], "weight": 0.5, "split": "x"},
    )  # fmt: skip
    corpus = LhotseCutSet(write(tmp_path / name, [cut("c1", recording, [who], start=0.5)])).read()
    assert corpus.skipped == []
    assert corpus.utterances == [
        Utterance(
            "s1", tmp_path / "audio.wav", 0.75, 0.5, "HELLO", "anna", None,
            {"emotion": "sad", "age": "30", "gender": "female", "language": "English"},
        )
    ]  # fmt: skip
    assert len(load_utterance(corpus.utterances[0])) == 8000


def test_each_stretch_is_what_lhotse_itself_would_load(tmp_path: Path, recording: Recording) -> None:
    whole = cut("c", recording, [supervision("a", 0.0, 0.4), supervision("b", 0.3, 0.7)], start=0.7)
    utterances = LhotseCutSet(write(tmp_path / "cuts.jsonl", [whole])).read().utterances
    trimmed = {c.id: c.load_audio()[0] for c in whole.trim_to_supervisions(keep_overlapping=False)}
    assert [u.id for u in utterances] == ["a", "b"]
    for u in utterances:
        assert np.array_equal(load_utterance(u).numpy(), trimmed[u.id])


def test_a_supervision_may_overshoot_its_cut_by_a_rounding(tmp_path: Path, recording: Recording) -> None:
    rounded = cut("c", recording, [supervision("a", -0.01, 0.5), supervision("b", 0.5, 0.51)], start=1.0)
    utterances = LhotseCutSet(write(tmp_path / "cuts.jsonl", [rounded])).read().utterances
    assert [(u.start, u.duration) for u in utterances] == [(1.0, 0.49), (1.5, 0.5)]


def test_manifests_by_split_and_paths_relative_to_a_root(tmp_path: Path, recording: Recording) -> None:
    for split in ("train", "dev", "test"):
        relative = [cut(split, recording, [supervision(f"{split}-1")])]
        relative[0].recording.sources[0].source = "audio.wav"
        write(tmp_path / f"{split}.jsonl.gz", relative)
    settings = {"cuts": {s: str(tmp_path / f"{s}.jsonl.gz") for s in ("train", "dev", "test")}, "root": str(tmp_path)}
    utterances = make_reader({"class_path": "LhotseCutSet", "init_args": settings}).read().utterances
    assert [(u.id, u.split) for u in utterances] == [("train-1", "train"), ("dev-1", "dev"), ("test-1", "test")]
    assert {u.audio for u in utterances} == {tmp_path / "audio.wav"}


def test_what_cannot_be_heard_as_it_is_meant_is_skipped_in_words(tmp_path: Path, recording: Recording) -> None:
    stereo = Recording.from_file(write_clip(tmp_path / "stereo.wav", seconds=1.0, channels=2))
    gone = Recording("gone", [AudioSource("file", [0], str(tmp_path / "gone.wav"))], 16_000, 16_000, 1.0)
    web = Recording("web", [AudioSource("url", [0], "https://example.org/a.wav")], 16_000, 16_000, 1.0)
    features = Features("fbank", 100, 80, 0.01, 16_000, 0.0, 1.0, "lilcom_chunky", "feats", "0", channels=0)
    said = [supervision("s")]
    cuts = [
        cut("kept", recording, [supervision("kept")]),
        cut("features", None, said, features=features),
        cut("stereo", stereo, said),
        MultiCut("multi", 0.0, 1.0, [0, 1], recording=stereo),
        cut("mixed", recording, said).mix(cut("noise", recording, [])),
        cut("padded", recording, said).pad(duration=3.0),
        cut("fast", recording, said).perturb_speed(1.1),
        cut("web", web, said),
        cut("gone", gone, said),
        cut("silent", recording, []),
        cut("long", recording, [supervision("too-long", 0.5, 0.6)]),
        cut("empty", recording, [supervision("wordless", text=" ")]),
    ]
    for one in cuts:
        one.id = one.id.removesuffix("_sp1.1")
    corpus = LhotseCutSet(write(tmp_path / "cuts.jsonl", cuts)).read()
    assert [u.id for u in corpus.utterances] == ["kept"]
    reasons = {s.id: s.reason for s in corpus.skipped}
    mixed = [reasons.pop(id) for id in list(reasons) if "MixedCut" in reasons[id]]
    assert mixed == ["is a MixedCut, which has no single channel of a single recording"] * 2
    assert reasons == {
        "features": "has no recording, only features",
        "stereo": "its recording has 2 channels; write each to a sound file of its own",
        "multi": "is a MultiCut, which has no single channel of a single recording",
        "fast": "its recording is transformed on loading; save it as a sound file (lhotse's save_audios)",
        "web": "its audio is a url, not a sound file",
        "gone": f"audio file {tmp_path / 'gone.wav'} does not exist",
        "silent": "has no supervision",
        "too-long": "reaches beyond its cut 'long'",
        "wordless": "has no text",
    }


def test_a_corpus_nobody_transcribed_is_read_too(tmp_path: Path, recording: Recording) -> None:
    cuts = [cut(n, recording, [supervision(n, text=None, speaker=n)]) for n in ("a", "b")]
    corpus = LhotseCutSet(write(tmp_path / "cuts.jsonl", cuts)).read()
    assert corpus.skipped == []
    assert [(u.speaker, u.transcription) for u in corpus.utterances] == [("a", None), ("b", None)]


def test_wrong_and_damaged_manifests_are_named(tmp_path: Path, recording: Recording) -> None:
    good = Path(write(tmp_path / "cuts.jsonl", [cut("c", recording, [supervision("s")])])).read_text()
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "recordings.jsonl")
    (tmp_path / "half.jsonl").write_text(good[:50])
    (tmp_path / "half.jsonl.gz").write_bytes(gzip.compress(good.encode() * 50)[:-20])
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    messages = {
        "none.jsonl": "cut set .*none.jsonl does not exist",
        "recordings.jsonl": "recordings.jsonl holds a Recording, not cuts; make them with `lhotse cut simple`",
        "half.jsonl": "cannot be read as a Lhotse manifest of cuts: ",
        "half.jsonl.gz": "cannot be read as a Lhotse manifest of cuts: ",
        "other.jsonl": "cannot be read as a Lhotse manifest of cuts: ",
        "empty.jsonl": r"(cannot be read as a Lhotse manifest|no utterance that can be used)",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message) as error:
            LhotseCutSet(str(tmp_path / name)).read()
        assert "\n" not in str(error.value)
    cuts = str(tmp_path / "cuts.jsonl")
    with pytest.raises(UserError, match="has two utterances 's'"):
        LhotseCutSet({"train": cuts, "test": cuts}).read()


def test_without_lhotse_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "lhotse":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"needs the package lhotse; pip install 'lhotse>=1.33'"):
        LhotseCutSet("cuts.jsonl").read()
