"""The verb `corpus`: from a folder to a manifest, what it prints, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from clips import write_clips

from disentangle_lightning import cli
from disentangle_lightning.corpus.job import run_corpus, skipped_file
from disentangle_lightning.corpus.manifest import Corpus, Skipped, read_manifest
from disentangle_lightning.corpus.overview import group_reasons
from disentangle_lightning.corpus.readers import reader_help, reader_name, reader_names
from disentangle_lightning.errors import UserError

HEAVY = {"torch", "torchaudio", "lightning", "transformers", "rich", "omegaconf"}


@pytest.fixture
def actors(tmp_path: Path) -> Path:
    """A RAVDESS of six actors, two emotions and two sentences, and one song."""
    names = [
        f"Actor_0{actor}/03-01-0{emotion}-01-0{sentence}-01-0{actor}.wav"
        for actor in range(1, 7)
        for emotion in (3, 4)
        for sentence in (1, 2)
    ]
    write_clips(tmp_path / "ravdess", *names, "Actor_01/03-02-03-01-01-01-01.wav")
    return tmp_path / "ravdess"


def test_a_folder_becomes_a_manifest_and_a_list_of_what_was_skipped(actors: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "manifest.jsonl"
    corpus, _ = run_corpus("Ravdess", str(actors), out, [])
    assert read_manifest(out) == corpus.utterances
    assert len(corpus.utterances) == 24
    assert {u.split for u in corpus.utterances} == {None}
    assert skipped_file(out) == tmp_path / "new" / "manifest.skipped.jsonl"
    assert [json.loads(line) for line in skipped_file(out).read_text().splitlines()] == [
        {"id": "Actor_01/03-02-03-01-01-01-01", "reason": "sung, not spoken"}
    ]
    assert {file.name for file in out.parent.iterdir()} == {out.name, skipped_file(out).name}


def test_options_are_the_readers_and_those_of_splits(actors: Path, tmp_path: Path) -> None:
    fractions = ["--splits.fractions.train=0.5", "--splits.fractions.probe", "0", "--splits.fractions.test", "0.4"]
    options = ["--emotions", "[sad]", "--test_speakers", "[Actor_01, Actor_02]", "--splits.disjoint", "speaker"]
    out = tmp_path / "m.jsonl"
    run_corpus("RAVDESS", str(actors), out, [*options, *fractions])
    utterances = read_manifest(out)
    assert {u.labels["emotion"] for u in utterances} == {"sad"}
    assert Counter(u.split for u in utterances) == {"train": 6, "dev": 2, "test": 4}
    assert {u.speaker for u in utterances if u.split == "test"} == {"Actor_01", "Actor_02"}


def test_text_options_are_not_read_as_yaml(tmp_path: Path) -> None:
    """The folder 017 is not the number 15, nor `no` false."""
    for name in ("017", "no"):
        write_clips(tmp_path / name, "a.wav")
        (tmp_path / name / "metadata.csv").write_text("file_name\na.wav\n")
        run_corpus("AudioFolder", str(tmp_path / name), tmp_path / f"{name}.jsonl", [])
    reader = f"{TextReader.__module__}.TextReader"
    for language, expected in (("no", "no"), ("null", None), ("17.0", "17.0")):
        with pytest.raises(UserError, match=f"^language {expected!r}$"):
            run_corpus(reader, "x", tmp_path / "m.jsonl", ["--language", language])


class TextReader:
    """Says which language it was given."""

    def __init__(self, folder: str, language: str | None = "en") -> None:
        self.language = language

    def read(self) -> Corpus:
        raise UserError(f"language {self.language!r}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RAVDES", "{folder}"], "there is no corpus reader 'RAVDES'; expected one of AudioFolder, .*RAVDESS"),
        (["RAVDESS", "{folder}", "--emotion", "[sad]"], "RAVDESS has no option --emotion; it takes --emotions, "),
        (["RAVDESS", "{folder}", "--folder", "x"], "RAVDESS has no option --folder; it takes --emotions, "),
        (["AudioFolder", "{folder}", "--x", "1"], "no option --x; it takes none of its own, and every corpus --spl"),
        (["RAVDESS", "{folder}", "--balanced", "yes please"], "--balanced is 'yes please'; expected bool"),
        (["RAVDESS", "{folder}", "--balanced"], "--balanced needs a value"),
        (["RAVDESS", "{folder}", "stray"], "argument 'stray' is not understood"),
        (["RAVDESS", "{folder}", "--splits.disjont", "speaker"], "field 'disjont'"),
        (["RAVDESS", "{folder}", "--splits.disjoint", "speeker"], "disjoint is 'speeker'"),
        (["RAVDESS", "{folder}", "--emotions", "[calm]"], "no utterance that can be used"),
        (["RAVDESS", "{folder}/none"], "none does not exist"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_the_manifest_alone(
    actors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "m.jsonl"
    out.write_text("as before")
    arguments = [argument.format(folder=actors) for argument in arguments]
    assert cli.main(["corpus", *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    with pytest.raises(UserError, match=message):
        raise UserError(error)
    assert out.read_text() == "as before"
    assert not skipped_file(out).exists()


def test_a_folder_as_manifest_is_refused(actors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["corpus", "RAVDESS", str(actors), "--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path} is a folder; name the manifest in it" in capsys.readouterr().err


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["corpus", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def rows(page: str) -> list[list[str]]:
    """The cells of every table's rows."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in page.splitlines() if line[:1] == "│"]


def test_the_tables_of_a_corpus_that_can_be_trained_on(
    actors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = printed(
        capsys, monkeypatch, "ravdess", actors, "--out", tmp_path / "m.jsonl", "--splits.disjoint", "speaker"
    )
    assert ["test", "4", "0.00", "1"] in rows(page)
    assert "Of test, 0 of the 1 speakers are in train as well, 0 in probe; 2 of the 2 sentences are in train" in page
    assert ["emotion", "24", "happy: 12, sad: 12"] in rows(page)
    assert ["sung, not spoken", "1", "Actor_01/03-02-03-01-01-01-01"] in rows(page)
    assert "Alphabet, by the transcriptions of splits train and probe (English): 'ABC" in page
    assert "Every character is in it" in page
    assert "which training needs" not in page
    assert f"Manifest: {tmp_path / 'm.jsonl'}" in page
    assert f"Skipped:  {tmp_path / 'm.skipped.jsonl'}" in page


def test_the_tables_of_a_corpus_in_another_language_without_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clips(tmp_path / "emodb", "wav/03a05Fa.wav", "wav/08a05Fa.wav")
    page = printed(capsys, monkeypatch, "emo-db", tmp_path / "emodb", "--out", tmp_path / "m.jsonl")
    assert ["unassigned", "2", "0.00", "2"] in rows(page)
    assert "Alphabet, by the transcriptions of all, since no split trains yet (those that occur): ABCD" in page
    assert "Ü" in page
    assert "No utterance has the split train or dev or test, which training needs" in page
    assert "Skipped" not in page


def test_characters_outside_the_alphabet_are_counted_and_many_classes_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clips(tmp_path, *[f"{i}.wav" for i in range(14)])
    lines = [f"{i}.wav,room 1{i % 2},train,[red]x{i}[/red],{'' if i else 'speaker'}\n" for i in range(14)]
    (tmp_path / "metadata.csv").write_text("file_name,text,split,colour,one\n" + "".join(lines))
    page = printed(capsys, monkeypatch, "audio_folder", tmp_path, "--out", tmp_path / "m.jsonl")
    assert "Outside it, and dropped: 1 (21), 0 (7)" in page
    assert ["colour", "14", "14 classes of 1 to 1 utterances"] in rows(page)
    assert ["one", "1", "speaker: 1"] in rows(page)
    assert ["train", "14", "0.00", "unknown"] in rows(page)


def test_reasons_are_grouped_over_paths_and_where_quotes_make_many() -> None:
    gone = [Skipped(f"a/{i}", f"audio file /data/my corpora/a/{i}.wav does not exist") for i in range(3)]
    few = [Skipped("b", "emotion 'calm' is not wanted"), Skipped("c", "emotion 'bored' is not wanted")]
    many = [Skipped(f"d{i}", f"transcription '{i}' has no letter of the alphabet") for i in range(9)]
    long = [Skipped(f"e{i}", f"lasts 15.{i} s, more than max_seconds 14") for i in range(2)]
    inside = [Skipped("f", "has no line in dialog/EmoEvaluation")]
    assert group_reasons([*few, *gone, *many, *long, *inside]) == [
        ("transcription … has no letter of the alphabet", 9, "d0"),
        ("audio file … does not exist", 3, "a/0"),
        ("lasts … s, more than max_seconds 14", 2, "e0"),
        ("emotion 'calm' is not wanted", 1, "b"),
        ("emotion 'bored' is not wanted", 1, "c"),
        ("has no line in dialog/EmoEvaluation", 1, "f"),
    ]


def test_readers_are_found_in_any_spelling() -> None:
    assert [reader_name(name) for name in ("crema-d", "Emo_DB", "iemocap", "TESS", "my.Reader")] == [
        "CREMAD",
        "EmoDB",
        "IEMOCAP",
        "TESS",
        "my.Reader",
    ]


@pytest.mark.parametrize("name", reader_names())
def test_every_reader_explains_its_options(name: str) -> None:
    assert "\nArgs:\n" in reader_help(name)


@pytest.mark.parametrize("name", [None, "crema-d"])
def test_help_names_the_readers_or_explains_one_and_imports_nothing_heavy(name: str | None) -> None:
    arguments = ["corpus", *([name] if name else []), "--help"]
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "disentangle_lightning", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ("test_speakers: these become" if name else "readers: AudioFolder, ") in ended.stdout
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "argparse" in imported
    assert not imported & HEAVY
