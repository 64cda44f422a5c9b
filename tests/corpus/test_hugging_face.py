"""Data sets of the `datasets` library: everything that it writes and loads, without torchcodec or the network."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from clips import write_clip
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.hugging_face import HuggingFaceDataset
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError


@pytest.fixture(autouse=True)
def off_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    yield
    if not bars:
        datasets.enable_progress_bars()


def table(rows: dict[str, list[Any]]) -> Dataset:
    """A data set with audio of paths and bytes, made without torchcodec, as the Hub's are."""
    made = Dataset.from_dict(rows).cast_column("audio", Audio())
    return made.cast_column("emotion", ClassLabel(names=["angry", "sad"])) if "emotion" in rows else made


def as_bytes(path: Path) -> dict[str, Any]:
    return {"bytes": path.read_bytes(), "path": path.name}


def as_path(path: Path) -> dict[str, Any]:
    return {"bytes": None, "path": str(path)}


def write(rows: Dataset, file: Path) -> None:
    """Parquet, in which `datasets` leaves a path a path."""
    file.parent.mkdir(exist_ok=True)
    rows.to_parquet(file)


@pytest.fixture
def spoken(tmp_path: Path) -> Dataset:
    """Three rows: one sound as a path, which save_to_disk takes in as bytes too, and two as bytes."""
    clips = [write_clip(tmp_path / "clips" / name, 0.1 + n / 10) for n, name in enumerate(("a.wav", "b.flac", "c.mp3"))]
    return table({
        "audio": [as_path(clips[0]), as_bytes(clips[1]), as_bytes(clips[2])],
        "id": ["x", "y", "z"],
        "text": ["one", " two ", "three"],
        "speaker_id": [7, 7, 8],
        "emotion": [0, 1, -1],
        "gender": ["F", "male", None],
        "native": [True, False, True],
        "loudness": [0.1, 0.2, 0.3],
        "words": [["one"], ["two"], ["three"]],
    })  # fmt: skip


def check(corpus: Corpus, tmp_path: Path, prefix: str = "train", split: str | None = "train") -> None:
    assert corpus.skipped == []
    first, second, third = corpus.utterances
    assert first == Utterance(
        f"{prefix}/000000", first.audio, 0.0, None, "one", "7", split,
        {"emotion": "angry", "gender": "female", "native": "True"},
    )  # fmt: skip
    assert first.audio.read_bytes() == (tmp_path / "clips/a.wav").read_bytes()
    assert second.transcription == "two"
    assert second.audio.parent.parent == tmp_path / "cache"
    assert second.audio.suffix == ".flac"
    assert second.audio.read_bytes() == (tmp_path / "clips/b.flac").read_bytes()
    assert third.labels == {"native": "True"}
    assert len(load_utterance(second)) == 3200
    assert len(load_utterance(third)) > 4000


def test_a_folder_of_save_to_disk_with_splits(tmp_path: Path, spoken: Dataset) -> None:
    DatasetDict({"train.clean.100": spoken}).save_to_disk(tmp_path / "saved")
    reader = HuggingFaceDataset(str(tmp_path / "saved"), cache=str(tmp_path / "cache"))
    check(reader.read(), tmp_path, "train.clean.100")


def test_a_folder_of_save_to_disk_without_splits(tmp_path: Path, spoken: Dataset) -> None:
    spoken.save_to_disk(tmp_path / "saved")
    reader = HuggingFaceDataset(str(tmp_path / "saved"), cache=str(tmp_path / "cache"))
    check(reader.read(), tmp_path, "all", None)


def test_a_folder_of_parquet(tmp_path: Path, spoken: Dataset) -> None:
    write(spoken, tmp_path / "pq/validation-00000-of-00001.parquet")
    settings = {"dataset": str(tmp_path / "pq"), "cache": str(tmp_path / "cache")}
    corpus = make_reader({"class_path": "HuggingFaceDataset", "init_args": settings}).read()
    check(corpus, tmp_path, "validation", "dev")
    assert corpus.utterances[0].audio == tmp_path / "clips/a.wav"


def test_parquet_that_datasets_did_not_write(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.wav")
    (tmp_path / "pq").mkdir()
    pandas.DataFrame({"audio": [as_bytes(clip)], "text": ["hi"]}).to_parquet(tmp_path / "pq/test.parquet")
    (utterance,) = HuggingFaceDataset(str(tmp_path / "pq"), cache=str(tmp_path / "cache")).read().utterances
    assert (utterance.id, utterance.split, utterance.transcription) == ("test/000000", "test", "hi")
    assert utterance.audio.read_bytes() == clip.read_bytes()


def test_an_audio_folder_is_referenced_and_not_copied(tmp_path: Path) -> None:
    for split in ("train", "test"):
        clip = write_clip(tmp_path / "af" / split / f"{split}.wav")
        (clip.parent / "metadata.csv").write_text(f"file_name,sentence,mood\n{clip.name},Good {split},calm\n")
    encode = Audio.encode_example
    corpus = HuggingFaceDataset(str(tmp_path / "af")).read()
    assert Audio.encode_example is encode
    assert corpus.skipped == []
    assert corpus.utterances == [
        Utterance(f"{s}/000000", tmp_path / f"af/{s}/{s}.wav", 0.0, None, f"Good {s}", None, s, {"mood": "calm"})
        for s in ("train", "test")
    ]


def test_web_dataset_archives(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "0.flac")
    (tmp_path / "0.txt").write_text("hello")
    (tmp_path / "wds").mkdir()
    with tarfile.open(tmp_path / "wds/train-0.tar", "w") as archive:
        for name in ("0.flac", "0.txt"):
            archive.add(tmp_path / name, name)
    reader = HuggingFaceDataset(str(tmp_path / "wds"), transcription="txt", cache=str(tmp_path / "cache"))
    (utterance,) = reader.read().utterances
    assert utterance.transcription == "hello"
    assert utterance.audio.read_bytes() == clip.read_bytes()


def test_bytes_are_written_once_and_never_again(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.wav")
    table({"audio": [as_bytes(clip)] * 3, "text": ["a", "b", "c"]}).save_to_disk(tmp_path / "saved")
    reader = HuggingFaceDataset(str(tmp_path / "saved"), cache=str(tmp_path / "cache"))
    (file,) = {u.audio for u in reader.read().utterances}
    before = file.stat()
    assert {u.audio for u in reader.read().utterances} == {file}
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == [file]


def test_what_cannot_be_used_is_listed(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.wav")
    gone = write_clip(tmp_path / "gone.wav")
    rows = [as_path(clip), as_path(clip), as_path(gone), None]
    write(table({"audio": rows, "text": ["a", None, "c", "d"]}), tmp_path / "pq/all.parquet")
    gone.unlink()
    corpus = HuggingFaceDataset(str(tmp_path / "pq")).read()
    assert [(u.id, u.audio) for u in corpus.utterances] == [("train/000000", clip)]
    assert corpus.skipped == [
        Skipped("train/000001", "column 'text' is empty"),
        Skipped("train/000002", f"audio file {gone} does not exist"),
        Skipped("train/000003", "has no audio"),
    ]


def test_columns_and_splits_are_chosen(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.wav")
    rows = table({"audio": [as_path(clip)], "text": ["a b"], "raw": ["A, b!"], "client": ["c1"]})
    DatasetDict({"train": rows, "test": rows, "other": rows}).save_to_disk(tmp_path / "saved")
    chosen = {"transcription": "raw", "speaker": "client", "cache": str(tmp_path / "cache")}
    options: dict[str, Any] = {"splits": ["test", "other"], **chosen}
    utterances = HuggingFaceDataset(str(tmp_path / "saved"), **options).read().utterances
    assert [(u.id, u.split) for u in utterances] == [("test/000000", "test"), ("other/000000", None)]
    assert (utterances[0].transcription, utterances[0].speaker) == ("A, b!", "c1")
    assert utterances[0].labels == {"text": "a b"}
    for option, message in {
        "splits": "has no split 'dev'; it has train, test, other",
        "transcription": "field 'transcription' is 'dev', no column of .*; its columns are: audio, text, raw, client",
        "speaker": "field 'speaker' is 'dev', no column of",
    }.items():
        value = ["dev"] if option == "splits" else "dev"
        with pytest.raises(UserError, match=message):
            HuggingFaceDataset(str(tmp_path / "saved"), **{option: value}).read()


def test_bytes_without_a_cache_and_tables_without_audio_are_named(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.wav")
    table({"audio": [as_bytes(clip)]}).save_to_disk(tmp_path / "bytes")
    with pytest.raises(UserError, match="holds its audio as bytes; name a folder for the sound files in field 'cache'"):
        HuggingFaceDataset(str(tmp_path / "bytes")).read()
    Dataset.from_dict({"text": ["a"]}, features=Features({"text": Value("string")})).save_to_disk(tmp_path / "text")
    with pytest.raises(UserError, match="has no audio columns, one is needed; its columns are: text"):
        HuggingFaceDataset(str(tmp_path / "text")).read()
    two = table({"audio": [as_path(clip)], "other": [as_path(clip)]})
    two.save_to_disk(tmp_path / "two")
    with pytest.raises(UserError, match="has 2 audio columns, one is needed"):
        HuggingFaceDataset(str(tmp_path / "two")).read()


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "af").mkdir()
    (tmp_path / "af/train.parquet").write_bytes(b"PAR1 no table")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "state.json").write_text("{")
    for name in ("empty", "af", "broken"):
        with pytest.raises(UserError, match=f"folder {tmp_path / name} cannot be loaded by datasets: .") as error:
            HuggingFaceDataset(str(tmp_path / name)).read()
        assert "\n" not in str(error.value)
    with pytest.raises(
        UserError, match=r"no folder of that name is here, so the Hub was asked\) nobody/nothing cannot"
    ):
        HuggingFaceDataset("nobody/nothing").read()


def test_the_configuration_and_revision_reach_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> DatasetDict:
        asked.append((args, kwargs))
        return DatasetDict({"train": table({"audio": [as_path(write_clip(tmp_path / "a.wav"))]})})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    HuggingFaceDataset("google/fleurs", config="en_us", revision="abc").read()
    assert asked == [(("google/fleurs", "en_us"), {"revision": "abc"})]


def test_without_datasets_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets; pip install 'datasets>=5'"):
        HuggingFaceDataset("nobody/nothing").read()
