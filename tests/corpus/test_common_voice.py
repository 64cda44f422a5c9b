"""Common Voice in its published layouts: the columns of every version, quotes that are none, chosen speakers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from clips import write_clip

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.common_voice import CommonVoice
from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.errors import UserError

V17 = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
)
V6 = "client_id path sentence up_votes down_votes age gender accent locale segment"
US = "United States English"


def row(version: str = V17, **cells: str) -> str:
    known = {"sentence_id": "f0a1", "up_votes": "2", "down_votes": "0", "locale": "en"} | cells
    return "\t".join(known.get(name, "") for name in version.split())


def table(folder: Path, name: str, rows: Sequence[str], version: str = V17) -> None:
    """A table as published."""
    (folder / "clips").mkdir(exist_ok=True)
    (folder / f"{name}.tsv").write_text("\n".join([version.replace(" ", "\t"), *rows]) + "\n", encoding="utf-8")


def touch(folder: Path, *names: str) -> None:
    (folder / "clips").mkdir(exist_ok=True)
    for name in names:
        (folder / "clips" / name).write_bytes(b"not opened")


def read(folder: Path, **options: Any) -> list[Utterance]:
    corpus = CommonVoice(str(folder), **options).read()
    assert corpus.skipped == []
    return corpus.utterances


def test_every_field_of_an_utterance(tmp_path: Path) -> None:
    write_clip(tmp_path / "clips/common_voice_en_1.mp3", seconds=1.0, rate=32_000)
    table(tmp_path, "train", [
        row(client_id="ab12", path="common_voice_en_1.mp3", sentence="He's gone.",
            age="twenties", gender="female_feminine", accents=US),
    ])  # fmt: skip
    (utterance,) = read(tmp_path)
    assert utterance == Utterance(
        "clips/common_voice_en_1", tmp_path / "clips/common_voice_en_1.mp3", 0.0, None, "He's gone.", "ab12", "train",
        {"gender": "female", "age": "twenties", "accent": US, "language": "en"},
    )  # fmt: skip
    assert len(load_utterance(utterance)) == pytest.approx(16_000, abs=1200)


def test_official_splits_and_what_volunteers_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp3", "2.mp3", "3.mp3")
    for n, name in enumerate(("train", "dev", "test"), start=1):
        table(tmp_path, name, [row(client_id=f"c{n}", path=f"{n}.mp3", sentence="Yes.", gender="do_not_wish_to_say")])
    table(tmp_path, "validated", [row(client_id="c9", path="9.mp3", sentence="Not read.")])
    found = read(tmp_path)
    assert [(u.speaker, u.split, u.labels) for u in found] == [
        (f"c{n}", split, {"language": "en"}) for n, split in enumerate(("train", "dev", "test"), start=1)
    ]


def test_versions_before_8_have_an_accent_and_the_first_no_extension(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp3", "2.mp3")
    rows = [row(V6, client_id="a", path="1.mp3", sentence="Hi", gender="male", accent="us")]
    rows += [row(V6, client_id="b", path="2", sentence="Ho", gender="other", accent="england")]
    table(tmp_path, "train", rows, V6)
    assert [(u.label("accent"), u.label("gender"), u.audio.name) for u in read(tmp_path)] == [
        ("us", "male", "1.mp3"), ("england", "other", "2.mp3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ('"Why me?" he asked.', '"Why me?" he asked.'),
        ('He said "no', 'He said "no'),
        ('"Never closed', '"Never closed'),
        ('"It just didn\'t seem fair."', '"It just didn\'t seem fair."'),
        ('"""Why me?"" he asked."', '"Why me?" he asked.'),
        ('\\"Why me?\\" he asked.', '"Why me?" he asked.'),
        ('"Hello," she said, "you."', '"Hello," she said, "you."'),
        ("Zoë naïvely\u2028ate", "Zoë naïvely\u2028ate"),
    ],
)
def test_a_quotation_mark_never_swallows_rows(tmp_path: Path, written: str, sentence: str) -> None:
    touch(tmp_path, "1.mp3", "2.mp3", "3.mp3")
    texts = ["First", written, "Last"]
    table(tmp_path, "train", [row(client_id="a", path=f"{n}.mp3", sentence=t) for n, t in enumerate(texts, start=1)])
    assert [u.transcription for u in read(tmp_path)] == ["First", sentence, "Last"]


def test_what_cannot_be_used_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp3", "2.mp3", "3.mp3")
    table(tmp_path, "test", [
        row(client_id="a", path="1.mp3", sentence="Kept"),
        row(client_id="a", path="2.mp3", sentence=" "),
        row(client_id="a", path="3.mp3", sentence="x") + "\tone\tmore",
        row(client_id="a", path="4.mp3", sentence="Gone"),
    ])  # fmt: skip
    corpus = CommonVoice(str(tmp_path)).read()
    assert [u.id for u in corpus.utterances] == ["clips/1"]
    assert corpus.skipped == [
        Skipped("clips/2", f"{tmp_path / 'test.tsv'}, line 3: column 'sentence' is empty"),
        Skipped("clips/3", f"{tmp_path / 'test.tsv'}, line 4 has more cells than there are columns"),
        Skipped("clips/4", f"audio file {tmp_path / 'clips/4.mp3'} does not exist"),
    ]


def test_lengths_come_from_the_table_and_else_from_the_header(tmp_path: Path) -> None:
    names = ["1.mp3", "2.mp3"]
    touch(tmp_path, *names)
    write_clip(tmp_path / "clips/3.mp3", seconds=2.0)
    table(tmp_path, "train", [row(client_id="a", path=p, sentence="x") for p in (*names, "3.mp3")])
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\n1.mp3\t1400\n2.mp3\t1401\n")
    corpus = CommonVoice(str(tmp_path), max_seconds=1.4).read()
    assert [(u.id, u.duration) for u in corpus.utterances] == [("clips/1", None)]
    assert {s.id for s in corpus.skipped} == {"clips/2", "clips/3"}
    assert CommonVoice(str(tmp_path), max_seconds=3, clips={"train": 2}).read().skipped == []


def many_speakers(folder: Path) -> None:
    """Women and men w0..w5, m0..m5 with 4 + n clips of the accent, and people who cannot be chosen."""
    rows = []
    for n in range(6):
        for gender, who in (("female_feminine", "w"), ("male_masculine", "m")):
            rows += [(f"{who}{n}", gender, US)] * (4 + n) + [(f"{who}{n}", gender, "England English")] * 9
    rows += [("shared", g, US) for g in ("female_feminine", "male_masculine")] * 9
    rows += [("silent", "", US)] * 20 + [("", "female_feminine", US)] * 20
    lines = [
        row(client_id=who, path=f"{n}.mp3", sentence=f"s{n}", gender=gender, accents=accent)
        for n, (who, gender, accent) in enumerate(rows)
    ]
    table(folder, "train", lines)
    touch(folder, *(f"{n}.mp3" for n in range(len(rows))))
    long = [n for n, (who, _, _) in enumerate(rows) if who == "m5"]
    durations = [f"{n}.mp3\t{9000 if n in long else 1000}" for n in range(len(rows))]
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\n" + "\n".join(durations) + "\n")


def test_as_many_women_as_men_are_chosen_with_as_many_clips_each(tmp_path: Path) -> None:
    many_speakers(tmp_path)
    options = {"speakers": 6, "clips_per_speaker": 6, "accent": US, "max_seconds": 5}
    corpus = CommonVoice(str(tmp_path), **options).read()
    counts = Counter(u.speaker for u in corpus.utterances)
    assert set(counts.values()) == {6}
    # Of those with six clips, w2 to w5 and m2 to m4: all three men must be taken, for all of m5's clips are too long.
    assert {who for who in counts if who and who.startswith("m")} == {"m2", "m3", "m4"}
    assert len(counts) == 6
    assert set(counts) - {"m2", "m3", "m4"} < {"w2", "w3", "w4", "w5"}
    assert {u.split for u in corpus.utterances} == {None}
    assert {u.label("accent") for u in corpus.utterances} == {US}
    assert CommonVoice(str(tmp_path), **options).read() == corpus


def test_too_few_speakers_and_unknown_accents_are_named(tmp_path: Path) -> None:
    many_speakers(tmp_path)
    with pytest.raises(UserError, match="only 5 male speakers with 6 clips that can be used, 6 are needed"):
        CommonVoice(str(tmp_path), speakers=12, clips_per_speaker=6, max_seconds=5).read()
    with pytest.raises(
        UserError, match=r"'accent' is 'us', which no clip .* has; frequent ones are: '(United|England)"
    ):
        CommonVoice(str(tmp_path), accent="us").read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speakers": 3}, "'speakers' is 3; expected an even number"),
        ({"speakers": 0}, "'speakers' is 0"),
        ({"clips_per_speaker": 0}, "'clips_per_speaker' is 0"),
        ({"speakers": 2, "clips": {"train": 5}}, "use 'clips_per_speaker'"),
        ({"max_seconds": -1}, "'max_seconds' is -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CommonVoice("en", **options)


def test_wrong_folders_and_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"has no sub-folder clips beside train.tsv, dev.tsv or test.tsv; give the fold"
    ):
        CommonVoice(str(tmp_path)).read()
    table(tmp_path, "test", [], "path\tsentence")
    with pytest.raises(UserError, match=r"test.tsv has no column 'client_id'; its columns are: path, sentence"):
        CommonVoice(str(tmp_path)).read()
    with pytest.raises(UserError, match=r"has no train.tsv, from which 'speakers' are chosen"):
        CommonVoice(str(tmp_path), speakers=2).read()
    table(tmp_path, "test", [row(client_id="a", path="gone.mp3", sentence="x")])
    with pytest.raises(UserError, match="no utterance that can be used; the first of 1 problems: audio file"):
        CommonVoice(str(tmp_path)).read()
