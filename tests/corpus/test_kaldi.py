"""Kaldi data directories: with and without segments, texts and genders; commands are never run."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clip

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.kaldi import KaldiData
from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/train with segments of one recording, and data/test of whole recordings, paths as in a recipe."""
    write_clip(tmp_path / "downloads/meeting.wav", seconds=1.0)
    write_clip(tmp_path / "downloads/with space.flac", seconds=0.2)
    train, test = tmp_path / "data/train", tmp_path / "data/test"
    for folder in (train, test):
        folder.mkdir(parents=True)
    (train / "wav.scp").write_text("meeting downloads/meeting.wav\n")
    (train / "segments").write_text("anna-1 meeting 0.25 0.75\nboris-1 meeting 0.75 -1\n")
    (train / "text").write_text("anna-1 HELLO  <unk> WORLD\nboris-1 GOOD BYE\n")
    (train / "utt2spk").write_text("anna-1 anna\nboris-1 boris\n")
    (train / "spk2gender").write_text("anna f\nboris m\n")
    (test / "wav.scp").write_text(f"clara-1 {tmp_path}/downloads/with space.flac\n")
    return tmp_path / "data"


def test_every_field_of_a_segment(data: Path) -> None:
    corpus = KaldiData(str(data / "train"), root=str(data.parent)).read()
    assert corpus.skipped == []
    audio = data.parent / "downloads/meeting.wav"
    assert corpus.utterances == [
        Utterance("anna-1", audio, 0.25, 0.5, "HELLO  <unk> WORLD", "anna", None, {"gender": "female"}),
        Utterance("boris-1", audio, 0.75, None, "GOOD BYE", "boris", None, {"gender": "male"}),
    ]
    assert [len(load_utterance(u)) for u in corpus.utterances] == [8000, 4000]


def test_whole_recordings_and_splits(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    settings = {"folder": {"train": "data/train", "test": "data/test"}}
    utterances = make_reader({"class_path": "KaldiData", "init_args": settings}).read().utterances
    assert [(u.id, u.split) for u in utterances] == [("anna-1", "train"), ("boris-1", "train"), ("clara-1", "test")]
    assert utterances[2] == Utterance("clara-1", data.parent / "downloads/with space.flac", split="test")


def test_what_cannot_be_used_is_listed(data: Path) -> None:
    train = data / "train"
    (train / "wav.scp").write_text("meeting downloads/meeting.wav\nlost downloads/lost.wav\n")
    (train / "segments").write_text("a meeting 0 1\nb meeting 0 1\nc meeting 0 1\nd lost 0 1\ne nowhere 0 1\n")
    (train / "text").write_text("a YES\nb\nd NO\ne NO\n")
    corpus = KaldiData(str(train), root=str(data.parent)).read()
    assert [u.id for u in corpus.utterances] == ["a"]
    assert corpus.skipped == [
        Skipped("b", f"has no words in {train / 'text'}"),
        Skipped("c", f"has no words in {train / 'text'}"),
        Skipped("d", f"audio file {data.parent / 'downloads/lost.wav'} does not exist"),
        Skipped("e", f"its recording 'nowhere' is not in {train / 'wav.scp'}"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("meeting sph2pipe -f wav -p /corpora/a.sph |", "is a command .'sph2pipe -f wav -p /corpora/a.sph |'., which"),
        ("meeting touch {marker} |", "is a command"),
        ("meeting raw.ark:17", "is 'raw.ark:17', which is no sound file"),
        ("meeting -", "is '-', which is no sound file"),
        ("meeting", "is '', which is no sound file"),
    ],
)  # fmt: skip
def test_what_is_no_sound_file_is_refused_and_not_run(data: Path, line: str, message: str) -> None:
    marker = data / "was_run"
    (data / "train/wav.scp").write_text(line.format(marker=marker) + "\n")
    with pytest.raises(UserError, match=f"recording 'meeting' {message}".replace("|", r"\|")):
        KaldiData(str(data / "train")).read()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("a meeting 0", "utterance 'a': 'meeting 0' is not RECORDING START END"),
        ("a meeting zero 1", "is not RECORDING START END"),
        ("a meeting 0 1 2", "names a channel"),
        ("a meeting 1 1", "does not end after it starts"),
        ("a meeting -1 1", "does not end after it starts"),
        ("a meeting 0 inf", "does not end after it starts"),
        ("a meeting nan 1", "does not end after it starts"),
        ("a meeting 0 1\na meeting 1 2", "line 2: 'a' was already there"),
    ],
)
def test_faulty_segments_are_named(data: Path, segment: str, message: str) -> None:
    (data / "train/segments").write_text(segment + "\n")
    with pytest.raises(UserError, match=message):
        KaldiData(str(data / "train")).read()


def test_wrong_folders_and_double_ids_are_named(data: Path) -> None:
    with pytest.raises(UserError, match=r"has no wav.scp; give a Kaldi data directory"):
        KaldiData(str(data)).read()
    with pytest.raises(UserError, match=r"'folder' is \{'training': 'x'\}; expected a path, or paths by split"):
        KaldiData({"training": "x"})
    with pytest.raises(UserError, match=r"'folder.train' is \['x'\]; expected a path"):
        KaldiData({"train": ["x"]})  # type: ignore[dict-item]
    both = {"train": str(data / "train"), "dev": str(data / "train")}
    with pytest.raises(UserError, match="has two utterances 'anna-1'; ids must be unique"):
        KaldiData(both, root=str(data.parent)).read()
    (data / "train/text").write_bytes(b"anna-1 caf\xe9\n")
    with pytest.raises(UserError, match="text is not UTF-8 text"):
        KaldiData(str(data / "train")).read()
