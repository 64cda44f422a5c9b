"""The AudioFolder reader: the Hub's convention in all its layouts, and every fault named or listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disentangle_lightning.corpus.audio_folder import AudioFolder
from disentangle_lightning.corpus.manifest import Skipped, Utterance, read_manifest, write_manifest
from disentangle_lightning.errors import UserError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"sound")


def read(folder: Path) -> list[Utterance]:
    corpus = AudioFolder(str(folder)).read()
    assert corpus.skipped == []
    return corpus.utterances


def test_columns_become_transcription_speaker_and_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "sub/b.mp3")
    (tmp_path / "metadata.csv").write_text(
        "file_name,transcription,speaker,gender,digit\na.wav,Hello,anna,f,1\nsub/b.mp3,Bye,,,2\n"
    )
    assert read(tmp_path) == [
        Utterance("a", tmp_path / "a.wav", 0.0, None, "Hello", "anna", None, {"gender": "f", "digit": "1"}),
        Utterance("sub/b", tmp_path / "sub/b.mp3", 0.0, None, "Bye", None, None, {"digit": "2"}),
    ]


def test_csv_and_jsonl_of_one_table_are_one_corpus(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.wav", "text": 'He said "no", twice', "speaker_id": 7, "loud": True},
        {"file_name": "b.wav", "text": "zwölf", "speaker_id": 8, "loud": None},
    ]
    for kind in ("csv", "jsonl"):
        touch(tmp_path / kind, "a.wav", "b.wav")
    (tmp_path / "jsonl" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # As a spreadsheet writes it: byte-order mark, carriage returns, quotes, an unnamed index column.
    (tmp_path / "csv" / "metadata.csv").write_bytes(
        '\ufeff,"file_name",text,speaker_id,loud\r\n0,a.wav,"He said ""no"", twice",7,True\r\n'
        "1,b.wav,zwölf,8,\r\n".encode()
    )
    both = [read(tmp_path / kind) for kind in ("csv", "jsonl")]
    compared = [[(u.id, u.transcription, u.speaker, u.labels) for u in corpus] for corpus in both]
    assert compared[0] == compared[1]
    assert compared[0][0] == ("a", 'He said "no", twice', "7", {"loud": "True"})


def test_splits_come_from_sub_folders_and_ids_keep_them(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        touch(tmp_path / split, "clip.wav")
        (tmp_path / split / "metadata.csv").write_text("file_name,sentence\nclip.wav,hi\n")
    found = {u.id: (u.split, u.audio) for u in read(tmp_path)}
    assert found == {
        "train/clip": ("train", tmp_path / "train/clip.wav"),
        "validation/clip": ("dev", tmp_path / "validation/clip.wav"),
        "test/clip": ("test", tmp_path / "test/clip.wav"),
    }


def test_splits_come_from_paths_in_one_metadata_file_too(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.wav", "val/a.wav", "other/a.wav")
    (tmp_path / "metadata.csv").write_text("file_name\ntrain/a.wav\nval/a.wav\nother/a.wav\n")
    assert [u.split for u in read(tmp_path)] == ["train", "dev", None]


def test_a_split_column_goes_before_the_sub_folder(tmp_path: Path) -> None:
    touch(tmp_path, *[f"train/{i}.wav" for i in range(4)])
    (tmp_path / "metadata.csv").write_text(
        "file_name,split\ntrain/0.wav,validation\ntrain/1.wav,Test\ntrain/2.wav,\ntrain/3.wav,probe\n"
    )
    utterances = read(tmp_path)
    assert [u.split for u in utterances] == ["dev", "test", "train", "probe"]
    assert all(u.labels == {} for u in utterances)


def test_the_first_transcription_column_is_used_and_the_others_are_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "metadata.csv").write_text(
        "file_name,sentence,text,speaker_id,speaker,duration,id\na.wav,S,T,9,anna,1.5,77\n"
    )
    (utterance,) = read(tmp_path)
    assert (utterance.transcription, utterance.speaker, utterance.duration) == ("T", "anna", None)
    assert utterance.labels == {"sentence": "S", "speaker_id": "9"}


def test_missing_files_and_empty_transcriptions_are_skipped_and_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.wav", "text": "yes"}\n{"file_name": "b.wav", "text": " "}\n'
        '{"file_name": "gone.wav", "text": "no"}\n{"file_name": "c.wav"}\n'
    )
    corpus = AudioFolder(str(tmp_path)).read()
    assert [u.id for u in corpus.utterances] == ["a"]
    assert corpus.skipped == [
        Skipped("b", "column 'text' is empty"),
        Skipped("gone", f"audio file {tmp_path / 'gone.wav'} does not exist"),
        Skipped("c", "column 'text' is empty"),
    ]


def test_a_corpus_survives_being_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "data/train/a.wav")
    (tmp_path / "data/train/metadata.csv").write_text("file_name,text,mood\na.wav,hi,calm\n")
    monkeypatch.chdir(tmp_path)
    utterances = read(Path("data"))
    write_manifest("runs/manifest.jsonl", utterances)
    assert read_manifest("runs/manifest.jsonl") == utterances


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.csv", b"", "has no column 'file_name'; its columns are: none"),
        ("metadata.csv", b"file;text\na.wav;hi\n", "has no column 'file_name'; its columns are: 'file;text'"),
        ("metadata.csv", b"file_name;text\na.wav;hi\n", "'file_name;text'; cells are separated by commas"),
        ("metadata.csv", b"file_name,text\n", "has no rows"),
        ("metadata.csv", b"file_name,x,x\na.wav,1,2\n", "two columns 'x'"),
        ("metadata.csv", b"file_name,text\na.wav,one, two\n", "line 2: 3 cells under 2 columns"),
        ("metadata.csv", b"file_name,text\na.wav\n", "line 2: 1 cells under 2 columns"),
        ("metadata.csv", b'file_name,text\na.wav,"never closed\nb.wav,x\n', "not CSV"),
        ("metadata.csv", b"file_name,text\na.wav,caf\xe9\n", "is not UTF-8"),
        ("metadata.csv", b"file_name,text\n,hi\n", "line 2: column 'file_name' is missing or empty"),
        ("metadata.csv", b"file_name\na.wav\na.wav\n", "line 3: 'a.wav' and 'a.wav' would both be utterance 'a'"),
        ("metadata.csv", b"file_name\na.wav\n./a.wav\n", "'a.wav' and 'a.wav' would both"),
        ("metadata.csv", b"file_name\na.wav\na.flac\n", "'a.flac' and 'a.wav' would both be utterance 'a'"),
        ("metadata.csv", b"file_name\n../a.wav\n", "leads out of the folder"),
        ("metadata.csv", b"file_name\nx/../../a.wav\n", "leads out of the folder"),
        ("metadata.csv", b"file_name\n/etc/passwd\n", "leads out of the folder"),
        ("metadata.csv", b"file_name,split\na.wav,holdout\n", "split 'holdout' is unknown"),
        ("metadata.csv", b"file_name\ngone.wav\n", "no utterance that can be used.*gone.wav does not exist"),
        ("metadata.jsonl", b"", "has no rows"),
        ("metadata.jsonl", b"{\n", "line 1: not JSON"),
        ("metadata.jsonl", b'"a.wav"\n', "line 1: expected a JSON object, found str"),
        ("metadata.jsonl", b'{"text": "hi"}\n', "line 1: column 'file_name' is missing or empty; found text"),
        ("metadata.jsonl", b'{"file_name": "a.wav", "words": [1]}\n', "column 'words' holds a list"),
    ],
)  # fmt: skip
def test_faulty_metadata_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    touch(tmp_path, "a.wav", "a.flac")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        AudioFolder(str(tmp_path)).read()
    assert "\n" not in str(error.value)


def test_a_folder_without_metadata_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "train/b.wav")
    with pytest.raises(UserError, match=r"has no metadata.csv or metadata.jsonl"):
        AudioFolder(str(tmp_path)).read()
    with pytest.raises(UserError, match="does not exist"):
        AudioFolder(str(tmp_path / "none")).read()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("metadata.csv", "metadata.jsonl"), "has both metadata.csv and metadata.jsonl"),
        (("metadata.csv", "train/metadata.csv"), "both describe the folder"),
        (("train/metadata.csv", "test/a.wav"), "sub-folder .*test has no metadata.csv"),
    ],
)
def test_ambiguous_metadata_is_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    touch(tmp_path, "a.wav", *files)
    with pytest.raises(UserError, match=message):
        AudioFolder(str(tmp_path)).read()
