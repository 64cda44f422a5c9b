"""Settings: a file, overrides on top, interpolations that obey them, and one sentence for whatever does not fit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import EncodeSettings, PipelineSettings
from disentangle_lightning.settings_files import (
    escape_interpolations,
    first_difference,
    read_settings,
    write_yaml,
)


def write(file: Path, **content: Any) -> Path:
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "overrides",
    [
        ["--splits.disjoint", "sentence", "--seeds", "[0, 1]", "--alphabet", "null"],
        ["--splits.disjoint=sentence", "--seeds=[0, 1]", "--alphabet=null"],
    ],
)
def test_an_override_goes_before_the_file_in_either_form(tmp_path: Path, overrides: list[str]) -> None:
    file = write(tmp_path / "p.yaml", run_dir="r", alphabet="AB", seeds=[3], splits={"seed": 4})
    settings = read_settings(PipelineSettings, file, overrides)
    assert (settings.alphabet, settings.seeds) == (None, [0, 1])
    assert (settings.splits.disjoint, settings.splits.seed) == ("sentence", 4)


def test_the_last_of_two_overrides_counts_and_a_value_may_hold_an_equals_sign(tmp_path: Path) -> None:
    settings = read_settings(EncodeSettings, None, ["--store", "a", "--store", "b=c", "--window_seconds", "-1"])
    assert (settings.store, settings.window_seconds) == ("b=c", -1.0)


def test_an_interpolation_obeys_an_override(tmp_path: Path) -> None:
    stages = {"stage1": {"set": {"epochs": 3}}, "stage2": {"set": {"epochs": "${stage1.set.epochs}"}}}
    file = write(tmp_path / "p.yaml", run_dir="runs/${encode.encoder}", **stages)
    settings = read_settings(PipelineSettings, file, ["--stage1.set.epochs", "7", "--encode.encoder", "tiny"])
    assert settings.stage2.set == {"epochs": 7}
    assert settings.run_dir == "runs/tiny"


def test_a_stage_file_is_found_from_the_pipeline_file_and_what_is_set_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    write(tmp_path / "stages" / "one.yaml", trainer={"max_epochs": 30, "logger": {"class_path": "W"}}, model={"a": 1})
    file = write(
        tmp_path / "p.yaml",
        run_dir="r",
        stage1={"config": "stages/one.yaml", "set": {"trainer": {"logger": False}, "model": {"b": 2}}},
    )
    settings = read_settings(PipelineSettings, file, ["--stage1.set.trainer.max_epochs", "1"])
    assert settings.stage1.config is None
    assert settings.stage1.set == {"trainer": {"max_epochs": 1, "logger": False}, "model": {"a": 1, "b": 2}}


def test_what_the_pipeline_decides_may_be_open_in_a_stage_file_and_nothing_else(tmp_path: Path) -> None:
    open_fields = {"data": {"manifest": "???"}, "model": {"init_args": {"task": "???", "latent_dim": "???"}}}
    write(tmp_path / "stage.yaml", **open_fields)
    file = write(tmp_path / "p.yaml", run_dir="r", stage2={"config": "stage.yaml"})
    with pytest.raises(UserError, match=r"'model.init_args.latent_dim' of .*stage.yaml is missing"):
        read_settings(PipelineSettings, file, [])
    settings = read_settings(PipelineSettings, file, ["--stage2.set.model.init_args.latent_dim", "8"])
    assert settings.stage2.set == {"data": {}, "model": {"init_args": {"latent_dim": 8}}}


def test_settings_written_into_a_run_are_read_back_as_they_were(tmp_path: Path) -> None:
    stage = {"model": {"beta": 0.5, "start": "${model.beta}"}, "run_dir": "x", "names": ["${run_dir}/a"]}
    write(tmp_path / "stage.yaml", **stage)
    file = write(tmp_path / "p.yaml", run_dir="r", stage1={"config": "stage.yaml"})
    settings = read_settings(PipelineSettings, file, [])
    assert settings.stage1.set == stage, "the stage's own interpolations are for its training to resolve"
    write_yaml(tmp_path / "run" / "config.yaml", escape_interpolations(asdict(settings)))
    assert read_settings(PipelineSettings, tmp_path / "run" / "config.yaml", []) == settings


def test_a_corpus_and_an_encoder_may_be_files_found_from_the_file_that_names_them(tmp_path: Path) -> None:
    for folder in ("encode", "corpora", "paper"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "encode" / "large.yaml", encoder="big", precision="bf16")
    write(tmp_path / "corpora" / "actors.yaml", class_path="RAVDESS", init_args={"folder": "???", "balanced": True})
    file = write(
        tmp_path / "paper" / "p.yaml", run_dir="r", encode="../encode/large.yaml", corpus="../corpora/actors.yaml"
    )
    settings = read_settings(PipelineSettings, file, ["--corpus.init_args.folder", "/data", "--encode.dtype", "int8"])
    assert settings.encode == EncodeSettings(encoder="big", precision="bf16", dtype="int8")
    assert settings.corpus == {"class_path": "RAVDESS", "init_args": {"folder": "/data", "balanced": True}}


def test_on_the_command_line_they_are_found_from_here_and_replace_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "large.yaml", encoder="big")
    write(tmp_path / "actors.yaml", class_path="RAVDESS", init_args={"folder": "???"})
    (tmp_path / "elsewhere").mkdir()
    file = write(
        tmp_path / "elsewhere" / "p.yaml",
        run_dir="r",
        encode={"encoder": "small", "dtype": "float32"},
        corpus={"class_path": "AudioFolder", "init_args": {"folder": "f", "x": 1}},
    )
    # A part of a field goes before the whole, wherever it stands.
    overrides = ["--corpus.init_args.folder", "d", "--corpus", "actors.yaml", "--encode", "large.yaml"]
    settings = read_settings(PipelineSettings, file, overrides)
    assert settings.encode == EncodeSettings(encoder="big")
    assert settings.corpus == {"class_path": "RAVDESS", "init_args": {"folder": "d"}}


def test_each_of_several_corpora_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpora").mkdir()
    write(tmp_path / "corpora" / "a.yaml", class_path="A", init_args={"folder": "???", "clips": {"train": 4}})
    write(tmp_path / "other.yaml", class_path="C", init_args={"folder": "c"})
    corpora = {"one": "a.yaml", "two": {"class_path": "B", "init_args": {"folder": "???"}}}
    write(tmp_path / "corpora" / "both.yaml", class_path="Several", init_args={"corpora": corpora})
    file = write(tmp_path / "p.yaml", run_dir="r", corpus="corpora/both.yaml")
    folders = ["--corpus.init_args.corpora.two.init_args.folder", "b"]
    one = ["--corpus.init_args.corpora.one.init_args.folder", "a"]
    settings = read_settings(PipelineSettings, file, folders + one)
    assert settings.corpus["init_args"]["corpora"] == {
        "one": {"class_path": "A", "init_args": {"folder": "a", "clips": {"train": 4}}},
        "two": {"class_path": "B", "init_args": {"folder": "b"}},
    }
    settings = read_settings(PipelineSettings, file, [*folders, "--corpus.init_args.corpora.one", "other.yaml"])
    assert settings.corpus["init_args"]["corpora"]["one"] == {"class_path": "C", "init_args": {"folder": "c"}}


def test_of_several_files_the_later_goes_before_the_earlier(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    write(tmp_path / "stages" / "one.yaml", trainer={"max_epochs": 30}, model={"rate": 1.0, "beta": 1})
    write(tmp_path / "other.yaml", trainer={"max_epochs": 5}, model={"rate": 2.0})
    base = write(
        tmp_path / "base.yaml",
        run_dir="r",
        tasks=["a"],
        encode={"encoder": "small", "dtype": "int8"},
        stage1={"config": "stages/one.yaml", "set": {"trainer": {"logger": False}}},
    )
    large = write(tmp_path / "stages" / "large.yaml", tasks=["b"], stage1={"set": {"model": {"rate": 0.1}}})
    settings = read_settings(PipelineSettings, [base, large], ["--encode.encoder", "big"])
    assert (settings.tasks, settings.encode.encoder, settings.encode.dtype) == (["b"], "big", "int8")
    assert settings.stage1.set == {"trainer": {"max_epochs": 30, "logger": False}, "model": {"rate": 0.1, "beta": 1}}
    other = write(tmp_path / "stages" / "preset.yaml", stage1={"config": "../other.yaml"})
    settings = read_settings(PipelineSettings, [base, large, other], [])
    assert settings.stage1.set == {"trainer": {"max_epochs": 5, "logger": False}, "model": {"rate": 0.1}}


def test_a_stage_file_on_the_command_line_is_found_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    write(tmp_path / "here.yaml", trainer={"max_epochs": 3})
    file = write(tmp_path / "deep" / "p.yaml", run_dir="r")
    settings = read_settings(PipelineSettings, file, ["--stage2.config", "here.yaml"])
    assert settings.stage2.set == {"trainer": {"max_epochs": 3}}


@pytest.mark.parametrize(
    ("content", "overrides", "sentence"),
    [
        ({"encode": "nowhere.yaml"}, [], r"p.yaml: field 'encode': settings file .*nowhere.yaml does not exist"),
        ({"encode": "bad.yaml"}, [], r"bad.yaml: field 'encodr': Key 'encodr' not in 'EncodeSettings'"),
        ({"corpus": "bad.yaml"}, [], "bad.yaml: field 'encodr' is unknown; a corpus has class_path and init_args"),
        ({"corpus": "list.yaml"}, [], "field 'corpus': settings file .*list.yaml holds no mapping"),
        (
            {"corpus": {"class_path": "Several", "init_args": {"corpora": {"a": "nowhere.yaml"}}}},
            [],
            r"p.yaml: field 'corpus.init_args.corpora.a': settings file .*nowhere.yaml does not exist",
        ),
        ({"corpus": "lost.yaml"}, [], r"lost.yaml: field 'corpus.init_args.corpora.a': settings file .*gone.yaml"),
        ({}, ["--encode", "nowhere.yaml"], "^field 'encode': settings file nowhere.yaml does not exist"),
        ({}, ["--stage1.config", "nowhere.yaml"], "^field 'stage1.config': settings file nowhere.yaml does not exist"),
        ({"stage2": {"checkpoint": "x.ckpt"}}, [], "p.yaml: field 'stage2.checkpoint': Key 'checkpoint' not in"),
        ({"corpus": "open.yaml"}, [], "field 'corpus.init_args.folder' is missing; give it in the file or as --corpus"),
    ],
)
def test_a_named_file_that_does_not_fit_is_named_with_its_field(
    tmp_path: Path, content: dict[str, Any], overrides: list[str], sentence: str
) -> None:
    write(tmp_path / "bad.yaml", encodr="x")
    write(tmp_path / "lost.yaml", class_path="Several", init_args={"corpora": {"a": "gone.yaml"}})
    write(tmp_path / "open.yaml", class_path="AudioFolder", init_args={"folder": "???"})
    (tmp_path / "list.yaml").write_text("- 1\n")
    file = write(tmp_path / "p.yaml", run_dir="r", **content)
    with pytest.raises(UserError, match=sentence) as error:
        read_settings(PipelineSettings, file, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "overrides", "sentence"),
    [
        ({"run_dir": "r", "seedz": [0]}, [], "field 'seedz'"),
        ({"run_dir": "r", "splits": {"disjont": "speaker"}}, [], "field 'splits.disjont'"),
        ({"run_dir": "r"}, ["--encode.encodr", "x"], "field 'encode.encodr'"),
        ({"run_dir": "r", "seeds": ["one"]}, [], r"field 'seeds\[0\]': Value 'one'"),
        ({"run_dir": "r"}, ["--splits.seed", "first"], "field 'splits.seed': Value 'first'"),
        ({"run_dir": "r", "tasks": "speaker"}, [], r"field 'tasks': expected a list, such as \[a, b\]"),
        ({"run_dir": "r"}, ["--tasks", "speaker"], r"field 'tasks': expected a list, such as \[a, b\]"),
        ({"run_dir": "r", "encode": None}, [], "field 'encode'"),
        ({}, [], "field 'run_dir' is missing"),
        ({"run_dir": "r", "corpus": {"init_args": {"folder": "???"}}}, [], "'corpus.init_args.folder' is missing"),
        ({"run_dir": "r", "alphabet": "${nothing}"}, [], "nothing"),
        ({"run_dir": "r"}, ["--seeds"], "--seeds needs a value"),
        ({"run_dir": "r"}, ["--seeds", "--alphabet", "AB"], "--seeds needs a value"),
        ({"run_dir": "r"}, ["alphabet"], "argument 'alphabet' is not understood"),
        ({"run_dir": "r"}, ["--alphabet", "[A"], r"the value of --alphabet is not YAML: \[A"),
        ({"run_dir": "r"}, ["--alphabet", "a: b: c"], "the value of --alphabet is not YAML"),
        ({"run_dir": "r", "stage1": {"config": "nowhere.yaml"}}, [], "nowhere.yaml does not exist"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(
    tmp_path: Path, content: dict[str, Any], overrides: list[str], sentence: str
) -> None:
    file = write(tmp_path / "p.yaml", **content)
    with pytest.raises(UserError, match=sentence) as error:
        read_settings(PipelineSettings, file, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"run_dir: [", "is not YAML"),
        (b"a: b: c", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"run_dir: r\nrun_dir: s\n", "is not YAML.*duplicate"),
        (b"- 1\n- 2\n", "holds no mapping"),
        (b"7", "is not YAML|holds no mapping"),
    ],
)
def test_a_file_that_is_no_mapping_in_yaml_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"p.yaml {sentence}") as error:
        read_settings(PipelineSettings, file, [])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_missing_file_or_a_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"settings file .* (does not exist|is not YAML)"):
        read_settings(PipelineSettings, tmp_path / name, [])


@pytest.mark.parametrize(
    ("before", "now", "difference"),
    [
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}, None),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, "a.b [1], not [1, 2]"),
        ({"a": 1}, {"a": 1, "b": 2}, "b None, not 2"),
        ({"a": {"b": 1}}, {"a": {}}, "a.b 1, not None"),
        ({"a": {"b": 1}}, {"a": False}, "a {'b': 1}, not False"),
    ],
)
def test_a_difference_is_told_by_its_dotted_name(before: Any, now: Any, difference: str | None) -> None:
    assert first_difference(before, now) == difference
