"""The manifest: what is written is read back, and every fault is named in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disentangle_lightning.corpus.manifest import (
    Utterance,
    audio_hash,
    read_manifest,
    write_manifest,
)
from disentangle_lightning.corpus.manifest_file import ManifestFile
from disentangle_lightning.errors import UserError

UTTERANCES = [
    Utterance("a", Path("/corpus/wav/a.wav"), 0.5, 1.25, "Häuser\u2028 \"and\" 家", "s1", "dev", {"emotion": "sad"}),
    Utterance("b", Path("/elsewhere/b.flac")),
]  # fmt: skip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "manifest.jsonl"
    write_manifest(path, UTTERANCES)
    assert read_manifest(path) == UTTERANCES
    assert ManifestFile(str(path)).read().utterances == UTTERANCES
    assert [p.name for p in path.parent.iterdir()] == ["manifest.jsonl"]


def test_audio_paths_are_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "corpus"
    write_manifest(folder / "manifest.jsonl", [Utterance("a", folder / "wav" / "a.wav")])
    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert read_manifest("moved/manifest.jsonl")[0].audio == tmp_path / "moved" / "wav" / "a.wav"


def test_labels_of_whole_numbers_and_flags_become_text_and_null_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "a", "audio": "a.wav", "speaker": 7, "age": 30, "loud": true, "x": null}\n\n')
    (utterance,) = read_manifest(path)
    assert utterance.speaker == "7"
    assert utterance.labels == {"age": "30", "loud": "True"}
    assert [utterance.label(name) for name in ("speaker", "age", "x")] == ["7", "30", None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected a JSON object, found list"),
        ('{"audio": "a.wav"}', "field 'id' is missing"),
        ('{"id": "a"}', "field 'audio' is missing"),
        ('{"id": "", "audio": "a.wav"}', "field 'id' is missing"),
        ('{"id": "first", "audio": "a.wav"}', "id 'first' was already used on line 1"),
        ('{"id": "a", "audio": "a.wav", "transcription": "  "}', "field 'transcription' is empty"),
        ('{"id": "a", "audio": "a.wav", "split": "validation"}', "field 'split' is 'validation'"),
        ('{"id": "a", "audio": "a.wav", "start": -1}', "field 'start' is -1"),
        ('{"id": "a", "audio": "a.wav", "start": NaN}', "field 'start' is nan"),
        ('{"id": "a", "audio": "a.wav", "duration": "2"}', "field 'duration' is '2'"),
        ('{"id": "a", "audio": "a.wav", "duration": 0}', "field 'duration' is zero"),
        ('{"id": "a", "audio": "a.wav", "pitch": 1.5}', "label 'pitch' is 1.5"),
        ('{"id": "a", "audio": "a.wav", "speaker": ["x"]}', r"label 'speaker' is \['x'\]"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "first", "audio": "f.wav"}\n' + line + "\n")
    with pytest.raises(UserError, match=message) as error:
        read_manifest(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("content", "message"), [(b"\n", "has no utterances"), (b"\xff\xfe", "is not UTF-8")])
def test_an_empty_or_binary_manifest_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_manifest(path)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        ManifestFile(str(tmp_path / "none.jsonl")).read()


def test_a_label_cannot_overwrite_a_field_of_the_manifest() -> None:
    with pytest.raises(UserError, match="a label cannot be called 'audio'"):
        Utterance("a", Path("a.wav"), labels={"audio": "b.wav"})


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, UTTERANCES)

    def broken() -> object:
        yield UTTERANCES[1]
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        write_manifest(path, broken())  # type: ignore[arg-type]
    assert read_manifest(path) == UTTERANCES


def test_the_audio_hash_follows_audio_and_order_only() -> None:
    first = Utterance("a", Path("/c/a.wav"), split="train", labels={"x": "1"})
    relabelled = Utterance("a", Path("/c/a.wav"), split="test", transcription="hi", speaker="s")
    second = Utterance("b", Path("/c/b.wav"))
    base = audio_hash([first, second], Path("/c"))
    assert audio_hash([relabelled, second], Path("/c")) == base
    assert audio_hash([second, first], Path("/c")) != base
    assert audio_hash([Utterance("a", Path("/c/a.wav"), start=1.0), second], Path("/c")) != base
    assert audio_hash([Utterance("a", Path("/d/a.wav")), Utterance("b", Path("/d/b.wav"))], Path("/d")) == base


def test_one_line_holds_one_utterance(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", UTTERANCES)
    lines = (tmp_path / "m.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["id"] for line in lines if line] == ["a", "b"]
