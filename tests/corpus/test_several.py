"""Several corpora as one: whose utterance is whose, and splits in each of them by itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from clips import write_clip

from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError


def folder(path: Path, clips: int, split: str = "", missing: int = 0) -> dict[str, Any]:
    """The settings of an AudioFolder with speakers 0 and 1."""
    rows = ["file_name,transcription,speaker,split,mood"]
    for i in range(clips):
        write_clip(path / f"{i}.wav", 0.01)
        rows.append(f"{i}.wav,say {i},{i % 2},{split},{'calm' if i % 4 < 2 else 'glad'}")
    rows += [f"lost{i}.wav,gone,0,," for i in range(missing)]
    (path / "metadata.csv").write_text("\n".join(rows) + "\n")
    return {"class_path": "AudioFolder", "init_args": {"folder": str(path)}}


def several(corpora: Any, **options: Any) -> Any:
    return make_reader({"class_path": "Several", "init_args": {"corpora": corpora} | options})


def test_the_corpus_is_in_ids_speakers_and_a_label(tmp_path: Path) -> None:
    corpora = {"one": folder(tmp_path / "a", 40, missing=1), "two": folder(tmp_path / "b", 40)}
    corpus = several(corpora).read()
    assert Counter(u.id.partition("/")[0] for u in corpus.utterances) == {"one": 40, "two": 40}
    assert Counter(u.label("corpus") for u in corpus.utterances) == {"one": 40, "two": 40}
    assert {u.speaker for u in corpus.utterances} == {"one/0", "one/1", "two/0", "two/1"}
    first = next(u for u in corpus.utterances if u.id == "one/3")
    assert first == Utterance(
        "one/3", tmp_path / "a" / "3.wav", transcription="say 3", speaker="one/1", split=first.split,
        labels={"mood": "glad", "corpus": "one"},
    )  # fmt: skip
    assert [(s.id, s.reason.split()[-1]) for s in corpus.skipped] == [("one/lost0", "exist")]


def test_who_is_unknown_stays_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    rows = "".join(f"{write_clip(tmp_path / 'a' / f'{i}.wav', 0.01).name}\n" for i in range(20))
    (tmp_path / "a" / "metadata.csv").write_text("file_name\n" + rows)
    corpora = {"a": {"class_path": "AudioFolder", "init_args": {"folder": str(tmp_path / "a")}}}
    assert {u.speaker for u in several(corpora).read().utterances} == {None}


def test_each_corpus_is_divided_by_itself(tmp_path: Path) -> None:
    """One comes with a test split; joined first and divided then, the other would have none."""
    corpora = {"official": folder(tmp_path / "a", 20, "train"), "free": folder(tmp_path / "b", 20)}
    whole = folder(tmp_path / "c", 10, "test")
    with (tmp_path / "a" / "metadata.csv").open("a") as rows:
        for i in range(10):
            (tmp_path / "c" / f"{i}.wav").rename(tmp_path / "a" / f"test{i}.wav")
            rows.write(f"test{i}.wav,say,{i % 2},test,calm\n")
    assert whole
    splits = {
        "official": {"fractions": {"train": 0.7, "probe": 0.2, "dev": 0.1, "test": 0}},
        "free": {"fractions": {"train": 0.4, "probe": 0.2, "dev": 0.2, "test": 0.2}, "stratify": "speaker"},
    }
    utterances = several(corpora, splits=splits).read().utterances
    counts = Counter((u.label("corpus"), u.split) for u in utterances)
    assert counts == {
        ("official", "train"): 14, ("official", "probe"): 4, ("official", "dev"): 2, ("official", "test"): 10,
        ("free", "train"): 8, ("free", "probe"): 4, ("free", "dev"): 4, ("free", "test"): 4,
    }  # fmt: skip
    assert Counter((u.split, u.speaker) for u in utterances if u.label("corpus") == "free")[("dev", "free/0")] == 2


@pytest.mark.parametrize(
    ("corpora", "options", "sentence"),
    [
        ({}, {}, r"init_args.corpora' is \{\}; expected the name of each corpus"),
        ("a.yaml", {}, r"init_args.corpora' is 'a.yaml'"),
        ({"a": None}, {}, "init_args.corpora.a' is None; expected class_path and init_args"),
        ({"a/b": {}}, {}, "names a corpus 'a/b'"),
        ({"a": {"class_path": "Nothing"}}, {}, "field 'corpus.init_args.corpora.a.class_path' is 'Nothing'"),
        ({"a": {"clas_path": "x"}}, {}, "field 'corpus.init_args.corpora.a.clas_path' is unknown"),
        (
            {"a": {"class_path": "AudioFolder", "init_args": {"folder": 3}}},
            {},
            "field 'corpus.init_args.corpora.a.init_args.folder' is 3; expected str",
        ),
        (
            {"a": {"class_path": "AudioFolder", "init_args": {"folder": "x"}}},
            {"splits": {"b": {}}},
            "init_args.splits' names 'b'; the corpora are a",
        ),
        (
            {"a": {"class_path": "AudioFolder", "init_args": {"folder": "x"}}},
            {"splits": {"a": {"disjont": "speaker"}}},
            "init_args.splits.a': .*disjont",
        ),
    ],
)
def test_what_does_not_fit_is_named(corpora: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        several(corpora, **options)
    assert "\n" not in str(error.value)


def test_a_corpus_that_cannot_be_divided_is_named(tmp_path: Path) -> None:
    corpora = {"small": folder(tmp_path / "a", 2)}
    with pytest.raises(UserError, match="corpus 'small': split"):
        several(corpora).read()


def test_a_manifest_is_read_in_part(tmp_path: Path) -> None:
    lines = [f'{{"id": "{i}", "audio": "{i}.wav", "corpus": "{"ab"[i % 2]}", "split": "test"}}' for i in range(4)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))

    def read(**only: str) -> list[str]:
        init_args = {"path": str(tmp_path / "m.jsonl"), "only": only}
        return [u.id for u in make_reader({"class_path": "ManifestFile", "init_args": init_args}).read().utterances]

    assert read() == ["0", "1", "2", "3"]
    assert read(corpus="b") == ["1", "3"]
    with pytest.raises(UserError, match="no utterance with corpus 'c', which 'only' asks for; there are: a, b"):
        read(corpus="c")
