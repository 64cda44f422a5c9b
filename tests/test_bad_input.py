"""Bad input through the command line: one clear sentence, or a counted and listed skip, and nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_pipeline import (
    EXPERIMENTS,
    Row,
    command,
    corpus_rows,
    finished_run,
    prepare,
    refused,
    tone,
    write_corpus,
    write_encoder,
    write_settings,
)

from disentangle_lightning.errors import UserError
from disentangle_lightning.pipeline import run_pipeline
from disentangle_lightning.settings import PipelineSettings
from disentangle_lightning.settings_files import read_settings

STAGE2 = EXPERIMENTS / "stage2" / "default.yaml"


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of an uninterrupted run on sound input; not to be changed."""
    return finished_run(tmp_path_factory)


@pytest.fixture
def refused_corpus(finished: Path, tmp_path: Path) -> Callable[..., str]:
    """Run the pipeline over rows that it must refuse before it encodes anything; returns the sentence."""

    def run(rows: list[Row], **changed: object) -> str:
        write_corpus(tmp_path / "corpus", rows)
        os.symlink(finished.parent / "encoder", tmp_path / "encoder")
        error = refused("pipeline", "--config", write_settings(tmp_path, **changed))
        assert files_below(tmp_path / "run") <= {"config.yaml"}, "something half-written was left"
        return error

    return run


def write_bad_clips(corpus: Path) -> dict[str, str]:
    """Put sound files in a corpus that cannot be used; returns what is wrong with each, as a pattern."""
    soundfile.write(corpus / "10.wav", 0 * tone(0.4), 16_000)
    soundfile.write(corpus / "11.wav", np.where(np.arange(6_000) == 99, np.nan, tone(0.375)), 16_000, subtype="FLOAT")
    soundfile.write(corpus / "12.wav", tone(0.4)[5:6], 16_000)
    (corpus / "13.wav").write_bytes(b"")
    (corpus / "14.wav").write_bytes((corpus / "00.wav").read_bytes()[:3_000])
    (corpus / "15.wav").write_text("this is no sound")
    (corpus / "16.wav").unlink()
    (corpus / "17.wav").unlink()
    (corpus / "17.wav").mkdir()
    return {
        "10": "is silent",
        "11": "NaN or infinite",
        "12": "1 samples at 16 kHz; the encoder needs at least",
        "13": "cannot be decoded",
        "14": "is truncated",
        "15": "cannot be decoded",
        "16": "does not exist",
        "17": "does not exist",
    }


def write_unusual_clips(corpus: Path) -> list[str]:
    """Put sound files in a corpus that are fine, and not 16 kHz mono WAV; returns their ids."""
    for name, rate in (("20", 8_000), ("21", 44_100), ("22", 96_000)):
        soundfile.write(corpus / f"{name}.wav", np.sin(np.arange(rate // 2) / rate * 2_000), rate)
    soundfile.write(corpus / "23.wav", np.stack([tone(0.5), 0.1 * tone(0.5)], axis=1), 16_000)
    soundfile.write(corpus / "24.wav", tone(0.6), 16_000, format="MP3")
    return ["20", "21", "22", "23", "24"]


def test_a_run_over_bad_files_and_odd_texts_lists_what_it_left_out(finished: Path, tmp_path: Path) -> None:
    rows = corpus_rows(60)
    script = "<script>alert(1)</script>"
    for row in rows:
        row["speaker"] = row["speaker"].replace("s1", "<img src=x onerror=alert(2)>")
        row["note"] = ""
    rows[30]["transcription"] = ""
    rows[31]["transcription"] = "42 !"
    rows[32]["transcription"] = "ÀB"
    for row in rows[40:60]:
        row["transcription"] += f" {script}"
    for row in rows[33:36]:
        row["speaker"] = ""
    corpus = write_corpus(tmp_path / "corpus", rows)
    reasons = write_bad_clips(corpus) | {"30": "column 'transcription' is empty", "31": "no letter of the alphabet"}
    unusual = write_unusual_clips(corpus)
    write_encoder(tmp_path / "encoder")
    status, errors = command("pipeline", "--config", write_settings(tmp_path, alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ'"))
    assert status == 0, errors
    run_dir = tmp_path / "run"

    facts = json.loads((run_dir / "corpus.json").read_text())
    skipped = {skip["id"]: skip["reason"] for skip in facts["skipped"]}
    assert len(skipped) == len(facts["skipped"]), "each is listed once"
    assert skipped.keys() == reasons.keys()
    for id, reason in reasons.items():
        assert re.search(reason, skipped[id]), id
    assert {"4", "2"}.isdisjoint(facts["unknown_characters"]), "of what is left out, nothing is counted"
    assert facts["unknown_characters"]["À"] == 1
    assert facts["unknown_characters"]["1"] == 20
    assert sum(facts["labels"]["speaker"].values()) < sum(split["utterances"] for split in facts["splits"].values())

    encoded = {entry["id"] for sidecar in (run_dir / "features").rglob("*.json") for entry in _utterances_of(sidecar)}
    assert encoded == {row["file_name"].removesuffix(".wav") for row in rows} - reasons.keys()
    assert set(unusual) <= encoded

    for summary in run_dir.rglob("summary.json"):
        assert all(np.isfinite(value) for value in json.loads(summary.read_text()).values()), summary
    page = (run_dir / "report.html").read_text()
    for id, reason in skipped.items():
        assert f"<code>{id}</code>" in page
        assert _escaped(reason) in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(2)&gt;" in page
    assert not [file for file in files_below(tmp_path) if file.endswith(".tmp")]


def _utterances_of(sidecar: Path) -> list[dict[str, str]]:
    content = json.loads(sidecar.read_text())
    found: list[dict[str, str]] = content.get("utterances", []) if isinstance(content, dict) else []
    return found


def _escaped(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;")):
        text = text.replace(character, entity)
    return text


# Corpora that nothing can be learnt from: refused before anything is encoded.


def test_a_folder_without_metadata(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "corpus" / "metadata.csv").unlink()
    error = refused("pipeline", "--config", tmp_path / "pipeline.yaml")
    assert f"audio folder {tmp_path / 'corpus'} has no metadata.csv or metadata.jsonl" in error
    assert files_below(tmp_path / "run") == {"config.yaml"}


def test_a_duplicate_id(refused_corpus: Callable[..., str]) -> None:
    rows = corpus_rows()
    assert "'00.wav' and '00.wav' would both be utterance '00'" in refused_corpus([*rows, rows[0]])


def test_a_label_with_one_class(refused_corpus: Callable[..., str]) -> None:
    rows = [row | {"speaker": "anna"} for row in corpus_rows()]
    assert "label 'speaker' has only class 'anna' in split 'probe'" in refused_corpus(rows)


def test_a_class_that_only_test_has(refused_corpus: Callable[..., str]) -> None:
    rows = [row | {"split": ("train", "train", "dev", "test")[i // 4 % 4]} for i, row in enumerate(corpus_rows())]
    next(row for row in rows if row["split"] == "test")["speaker"] = "newcomer"
    error = refused_corpus(rows)
    assert "label 'speaker' has classes in split 'test' that no training split has: newcomer" in error


def test_a_split_that_leaves_a_class_out(refused_corpus: Callable[..., str]) -> None:
    rows = corpus_rows()
    rows[5]["emotion"] = "rare"
    assert re.search("split '.*' has no utterance with emotion 'rare'", refused_corpus(rows))


def test_a_label_that_a_whole_split_lacks(refused_corpus: Callable[..., str]) -> None:
    rows = [row | {"split": ("train", "train", "dev", "test")[i // 4 % 4]} for i, row in enumerate(corpus_rows())]
    for row in rows:
        if row["split"] == "test":
            row["speaker"] = ""
    assert "no utterance of split 'test' has label 'speaker'" in refused_corpus(rows)


def test_a_label_that_nobody_has(refused_corpus: Callable[..., str]) -> None:
    error = refused_corpus(corpus_rows(), labels=["accent"])
    assert "no utterance has label 'accent'; the manifest has emotion, speaker" in error


@pytest.mark.parametrize("label", ["ctc", "a/b", "a.b", ""])
def test_a_label_whose_name_would_be_read_as_something_else(refused_corpus: Callable[..., str], label: str) -> None:
    rows = [row | {label: str(i % 2)} for i, row in enumerate(corpus_rows())]
    assert f"label '{label}' cannot be learnt" in refused_corpus(rows, labels=[label])


def test_nobody_wrote_down_what_was_said(refused_corpus: Callable[..., str]) -> None:
    rows = corpus_rows()
    for row in rows:
        del row["transcription"]
    assert "no utterance of split 'train' has a transcription" in refused_corpus(rows)


def test_nothing_of_what_was_said_is_in_the_alphabet(refused_corpus: Callable[..., str]) -> None:
    rows = [row | {"transcription": str(i)} for i, row in enumerate(corpus_rows())]
    assert "the corpus has no usable utterance: 40 were skipped" in refused_corpus(rows)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"tasks": None}, "field 'tasks' is missing"),
        ({"seeds": []}, r"field 'seeds' is \[\]"),
        ({"seeds": [0, 0]}, r"field 'seeds' is \[0, 0\]"),
        ({"seeds": [-1]}, r"field 'seeds' is \[-1\]"),
        ({"encode": {"shard": "1/2"}}, "field 'encode.shard' has no place in a pipeline"),
        ({"corpus": {}}, "field 'corpus.class_path' is ''"),
        ({"corpus": {"class_path": "AudioFoldr"}}, "field 'corpus.class_path' is 'AudioFoldr'; expected AudioFolder"),
        ({"corpus": {"class_path": "os.getcwd"}}, "'os.getcwd', which is no class with a method read"),
        ({"corpus": {"class_path": ".x"}}, "field 'corpus.class_path' is '.x'"),
        ({"corpus": {"class_path": "AudioFolder"}}, "missing a required argument: 'folder'"),
        ({"corpus": {"class_path": "AudioFolder", "init_args": {"folder": "c", "x": 1}}}, "keyword argument 'x'"),
        ({"corpus": {"class_path": "AudioFolder", "init_args": {"folder": None}}}, "init_args.folder' is None"),
        ({"corpus": {"class_path": "AudioFolder", "init_arg": {}}}, "field 'corpus.init_arg' is unknown"),
        (
            {"corpus": {"class_path": "SyntheticSpeech", "init_args": {"folder": "s", "sentences": "many"}}},
            "init_args.sentences' is 'many'; expected int",
        ),
        ({"splits": {"fractions": {"probe": 0, "train": 0.75}}}, "split 'probe' is empty"),
        ({"splits": {"disjoint": "microphone"}}, "disjoint is 'microphone'"),
        ({"quartiles": ["pitch"]}, "field 'quartiles' names 'pitch', which is in neither field 'tasks' nor 'labels'"),
        ({"quartiles": ["f0"], "labels": ["f0"]}, r"names 'f0', which is neither a label of the corpus \(emotion\)"),
        ({"quartiles": ["emotion"]}, "label 'emotion' is 'calm', which is no number"),
    ],
)
def test_settings_that_cannot_be(refused_corpus: Callable[..., str], changed: dict[str, object], sentence: str) -> None:
    assert re.search(sentence, refused_corpus(corpus_rows(), **changed))


def test_a_run_directory_that_cannot_be_made(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = finished.parent / "pipeline.yaml"
    error = refused("pipeline", "--config", settings, "--run_dir", tmp_path / "file" / "run")
    assert f"{tmp_path / 'file'}" in error


# Encoders and stores.


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (["--encode.encoder", "./no/encoder"], "encoder folder ./no/encoder does not exist"),
        (["--encode.precision", "fp8"], "fp8"),
        (["--encode.dtype", "int4"], "dtype is 'int4'"),
        (["--encode.layers", "[4]"], r"layers is \[4\]; this encoder has layers 1 to 3"),
        (["--encode.device", "toaster"], "field 'device' is 'toaster'"),
    ],
)
def test_an_encoding_that_cannot_be(finished: Path, tmp_path: Path, override: list[str], sentence: str) -> None:
    settings = finished.parent / "pipeline.yaml"
    error = refused("pipeline", "--config", settings, "--run_dir", tmp_path / "run", *override)
    assert re.search(sentence, error)
    assert files_below(tmp_path / "run") == {"config.yaml", "corpus.json", "manifest.jsonl", "provenance.json"}


def test_encode_without_a_manifest_or_with_a_missing_one(tmp_path: Path) -> None:
    assert "field 'manifest' is missing" in refused("encode", "--store", tmp_path / "store")
    encoder = write_encoder(tmp_path / "encoder")
    error = refused("encode", "--encoder", encoder, "--manifest", tmp_path / "m.jsonl", "--store", tmp_path / "store")
    assert f"manifest {tmp_path / 'm.jsonl'} does not exist" in error
    assert not (tmp_path / "store").exists()


def test_a_corpus_of_which_nothing_can_be_decoded(finished: Path, tmp_path: Path) -> None:
    rows = corpus_rows()
    corpus = write_corpus(tmp_path / "corpus", rows)
    for row in rows:
        (corpus / row["file_name"]).write_text("no sound")
    os.symlink(finished.parent / "encoder", tmp_path / "encoder")
    error = refused("pipeline", "--config", write_settings(tmp_path))
    assert "none of the 40 utterances" in error
    assert not (tmp_path / "run" / "features" / "complete.json").exists()


def test_a_store_of_another_encoder(finished: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(finished / "features", tmp_path / "store"))
    before = files_below(store)
    encoder = write_encoder(tmp_path / "encoder", seed=1)
    arguments = ["--manifest", finished / "manifest.jsonl", "--store", store, "--device", "cpu"]
    error = refused("encode", "--encoder", encoder, *arguments)
    assert f"feature store {store} was made with encoder fingerprint" in error
    assert files_below(store) - {"lock", ".lock"} == before - {"lock", ".lock"}


def test_features_of_another_encoder_under_a_trained_stage(finished: Path, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder", seed=1)
    manifest, store = finished / "manifest.jsonl", tmp_path / "store"
    arguments = ["--manifest", manifest, "--store", store, "--device", "cpu"]
    assert command("encode", "--encoder", encoder, *arguments)[0] == 0
    error = _refused_stage2(finished, tmp_path, **{"data.store": store})
    assert "was trained on features of encoder" in error


def test_a_store_of_another_manifest(finished: Path, tmp_path: Path) -> None:
    lines = (finished / "manifest.jsonl").read_text().splitlines()
    other = finished / "other.jsonl"
    other.write_text("\n".join(reversed(lines)))
    try:
        error = _refused_stage2(finished, tmp_path, **{"data.manifest": other})
    finally:
        other.unlink()
    assert "was made of other audio than manifest" in error


def test_a_damaged_shard_and_a_store_that_is_none(finished: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(finished / "features", tmp_path / "store"))
    shard = next(store.rglob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    error = _refused_stage2(finished, tmp_path, **{"data.store": store})
    assert f"feature shard {shard} is damaged" in error
    error = _refused_stage2(finished, tmp_path, **{"data.store": tmp_path / "nothing"})
    assert f"feature store {tmp_path / 'nothing'} does not exist" in error


# Settings files and checkpoints of single trainings.


def _refused_stage2(finished: Path, tmp_path: Path, **fields: Path | str) -> str:
    """`fit` of a Stage 2 on the finished run, with these fields different, which must be refused."""
    given: dict[str, Path | str] = {
        "run_dir": tmp_path / "stage2",
        "data.manifest": finished / "manifest.jsonl",
        "data.store": finished / "features",
        "data.labels": "[emotion]",
        "model.init_args.task": "emotion",
        "model.init_args.stage1": finished / "seed0" / "stage1" / "checkpoints" / "best.ckpt",
        "trainer.logger": "false",
        "trainer.accelerator": "cpu",
    }
    arguments = [f"--{name}={value}" for name, value in (given | fields).items()]
    error = refused("fit", "--config", STAGE2, *arguments)
    assert not (tmp_path / "stage2").exists(), "a refused training left something behind"
    return error


@pytest.mark.parametrize("step", ["probe_hidden", "stage2_emotion"])
def test_a_checkpoint_of_another_stage(finished: Path, tmp_path: Path, step: str) -> None:
    checkpoint = finished / "seed0" / step / "checkpoints" / "last.ckpt"
    error = _refused_stage2(finished, tmp_path, **{"model.init_args.stage1": checkpoint})
    kind = {"probe_hidden": "Probe", "stage2_emotion": "Stage2ConditionalVIB"}[step]
    assert f"checkpoint {checkpoint} holds a {kind}; a Stage1VIB is needed here" in error


def test_a_checkpoint_that_would_run_code(finished: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"state_dict": Payload()}, tmp_path / "evil.ckpt")
    error = _refused_stage2(finished, tmp_path, **{"model.init_args.stage1": tmp_path / "evil.ckpt"})
    assert "could run code when loaded; it was not loaded" in error
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model.init_args.task": "accent"}, "label 'accent' is not among the data's labels"),
        ({"data.labels": "[accent]"}, "no utterance has label 'accent'"),
        ({"data.train_split": "training"}, "train_split is 'training'"),
        ({"trainer.max_steps": "-7"}, "-7"),
        ({"trainer.accelerator": "toaster"}, "invalid accelerator name: `accelerator='toaster'`"),
        ({"trainer.strategy": "magic"}, "invalid strategy name: `strategy='magic'`"),
        ({"trainer.max_epochs": "0"}, "field 'trainer.max_epochs' is 0"),
    ],
)
def test_a_field_of_a_training_that_cannot_be(
    finished: Path, tmp_path: Path, fields: dict[str, str], sentence: str
) -> None:
    assert sentence in _refused_stage2(finished, tmp_path, **fields)


def test_what_a_model_refuses_is_a_user_error_in_python_too(finished: Path, tmp_path: Path) -> None:
    os.symlink(finished.parent / "corpus", tmp_path / "corpus")
    os.symlink(finished.parent / "encoder", tmp_path / "encoder")
    overrides = ["--stage1.set.model.init_args.mixer", "single", "--stage1.set.model.init_args.layer", "9"]
    settings = read_settings(PipelineSettings, write_settings(tmp_path), overrides)
    with pytest.raises(UserError, match="layer 9 does not exist"):
        run_pipeline(settings)


@pytest.mark.parametrize("verb", ["pipeline", "encode"])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "settings.yaml does not exist"),
        (b"a: b: c", "mapping values are not allowed"),
        (b"\xff\xfe\x00\x01", "settings.yaml is not YAML"),
        (b"nonsense: 1", "field 'nonsense'"),
    ],
)
def test_a_settings_file_that_cannot_be(tmp_path: Path, verb: str, content: bytes | None, named: str) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content)
    assert named in refused(verb, "--config", file)
    assert files_below(tmp_path) <= {"settings.yaml"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config", "nowhere.yaml"], "settings file "),
        (
            ["--config", STAGE2, "--model.init_args.latent_dim", "two"],
            "field 'model.init_args.latent_dim' is 'two'; expected int",
        ),
        (
            ["--config", STAGE2, "--model.init_args.layer", "top"],
            "field 'model.init_args.layer' is 'top'; expected int or null",
        ),
        (
            ["--config", STAGE2, "--model.init_args.units", "bits"],
            "field 'model.init_args.units' is 'bits'; expected 'nats' or 'paper'",
        ),
        (
            ["--config", STAGE2, "--model.init_args.latent_dims", "2"],
            "field 'model.init_args.latent_dims' is unknown; disentangle_lightning.tasks.stage2.Stage2ConditionalVIB",
        ),
        (
            ["--config", STAGE2, "--model.class_path", "Nothing"],
            "field 'model.class_path' is 'Nothing'; expected the full path of a class",
        ),
        (
            ["--config", STAGE2, "--model.class_path", "disentangle_lightning.tasks.stage2.Stage3"],
            "field 'model.class_path' is 'disentangle_lightning.tasks.stage2.Stage3', which does not exist",
        ),
        (["--config", STAGE2, "--data.max_frames", "many"], "field 'data.max_frames' is 'many'; expected int"),
        (["--config", STAGE2, "--data.layers", "[a]"], "field 'data.layers' is \"['a']\"; expected list[int] or null"),
        (
            ["--config", STAGE2, "--trainer.logger.init_args.projet", "x"],
            "field 'trainer.logger.init_args.projet' is unknown; lightning.pytorch.loggers.WandbLogger has no such",
        ),
        (["--config", STAGE2, "--data.colour", "red"], "data.colour"),
    ],
)
def test_arguments_of_a_training_that_do_not_fit_are_named(
    tmp_path: Path, arguments: list[Path | str], named: str
) -> None:
    status, errors = command("fit", *arguments, "--run_dir", tmp_path / "run")
    assert status == 2
    assert "Traceback" not in errors
    assert errors.partition("error: ")[2].startswith(named) or named == "data.colour"
    assert not (tmp_path / "run").exists()


@pytest.fixture
def manifest_without(finished: Path) -> Iterator[Callable[[str, str], Path]]:
    """The run's manifest with a field left out in one split, for as long as the test takes."""
    other = finished / "other.jsonl"  # beside the run's own: paths of the audio are relative to it

    def write(field: str, split: str) -> Path:
        rows = [json.loads(line) for line in (finished / "manifest.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in row.items() if (k, row["split"]) != (field, split)} for row in rows]
        other.write_text("\n".join(json.dumps(row) for row in kept))
        return other

    yield write
    other.unlink()


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_stage_1_without_transcriptions(
    finished: Path, manifest_without: Callable[[str, str], Path], tmp_path: Path, split: str
) -> None:
    manifest = manifest_without("transcription", split)
    fields = {"run_dir": tmp_path / "run", "data.manifest": manifest, "data.store": finished / "features"}
    arguments = [f"--{name}={value}" for name, value in fields.items()]
    error = refused("fit", "--config", EXPERIMENTS / "stage1" / "default.yaml", "--trainer.logger=false", *arguments)
    assert f"no utterance of split '{split}' has a transcription" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_stage_2_without_the_labels_to_choose_or_test_it_by(
    finished: Path, manifest_without: Callable[[str, str], Path], tmp_path: Path, split: str
) -> None:
    error = _refused_stage2(finished, tmp_path, **{"data.manifest": manifest_without("emotion", split)})
    assert f"no utterance of split '{split}' has label 'emotion'" in error


def test_a_stage_is_tested_where_only_the_test_split_has_what_it_learns(
    finished: Path, manifest_without: Callable[[str, str], Path], tmp_path: Path
) -> None:
    stage2 = finished / "seed0" / "stage2_emotion"
    arguments = ["--ckpt_path", stage2 / "checkpoints" / "best.ckpt", "--run_dir", tmp_path / "run"]
    config = stage2 / "config.yaml"
    for split, status in (("dev", 0), ("test", 2)):
        manifest = manifest_without("emotion", split)
        assert command("test", "--config", config, "--data.manifest", manifest, *arguments)[0] == status


@pytest.mark.parametrize(
    ("stage", "arguments", "flags"),
    [
        ("stage1", [], ["data.manifest", "data.store"]),
        ("stage1", ["--data.manifest=m.jsonl"], ["data.store"]),
        ("stage1", ["--data.manifest=m.jsonl", "--data.store=s", "--data.max_frames=???"], ["data.max_frames"]),
        ("stage2", ["--data.manifest=m.jsonl", "--data.store=s"], ["data.labels"]),
        ("stage2", ["--data.manifest=m", "--data.encoder=embedded", "--data.labels=[a]"], ["task", "stage1"]),
        ("probe", ["--data.labels=[a]"], ["targets"]),
    ],
)
def test_fields_of_a_training_that_are_left_open_are_named(
    tmp_path: Path, stage: str, arguments: list[str], flags: list[str]
) -> None:
    error = refused("fit", "--config", EXPERIMENTS / stage / "default.yaml", *arguments, "--run_dir", tmp_path / "run")
    named = ", ".join(f"--{flag}" if "." in flag else f"--model.init_args.{flag}" for flag in flags)
    count = (
        f"field '{named[2:]}' is missing; give it" if len(flags) == 1 else f"{len(flags)} fields are missing; give them"
    )
    assert error == f"error: {count} in the settings file or as {named}"
    assert not (tmp_path / "run").exists()


def test_a_metadata_file_with_html_for_a_column(finished: Path, tmp_path: Path) -> None:
    rows = corpus_rows()
    corpus = write_corpus(tmp_path / "corpus", rows)
    with (corpus / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["<b>file</b>", "transcription"], ["00.wav", "ONE"]])
    os.symlink(finished.parent / "encoder", tmp_path / "encoder")
    error = refused("pipeline", "--config", write_settings(tmp_path))
    assert "has no column 'file_name'; its columns are: '<b>file</b>', 'transcription'" in error


def test_a_mistyped_field_of_a_training_is_refused_before_anything_is_read(finished: Path, tmp_path: Path) -> None:
    settings = finished.parent / "pipeline.yaml"
    for stage, field in (("stage1", "betta"), ("stage2", "latent_dims"), ("probe", "hed")):
        typo = [f"--{stage}.set.model.init_args.{field}", "1"]
        error = refused("pipeline", "--config", settings, "--run_dir", tmp_path / "run", *typo)
        assert f"{stage}: field 'model.init_args.{field}' is unknown" in error
    typo = ["--stage1.set.trainer.max_epochs", "many"]
    error = refused("pipeline", "--config", settings, "--run_dir", tmp_path / "run", *typo)
    assert "stage1: field 'trainer.max_epochs' is 'many'; expected int or null" in error
    assert not (tmp_path / "run").exists()
