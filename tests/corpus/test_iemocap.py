"""IEMOCAP: who speaks, which emotion, what is skipped and why, on a miniature of the release."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from clips import write_clips

from disentangle_lightning.corpus.iemocap import IEMOCAP
from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.errors import UserError

BLOCK = """\
[{start:.4f} - {end:.4f}]\t{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tAnger; Frustration;\t(annoyed)
C-F1:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 2; act 3; dom  2;\t()

"""

Turns = dict[str, tuple[str, str]]
"""{turn: (emotion, transcription)}"""


def session(release: Path, number: int, turns: Turns) -> None:
    """One session of the release, as it unpacks: with annotators' folders and macOS's hidden files."""
    folder = release / f"Session{number}"
    evaluations, transcriptions = folder / "dialog" / "EmoEvaluation", folder / "dialog" / "transcriptions"
    for part in ("Attribute", "Categorical", "Self-evaluation"):
        (evaluations / part).mkdir(parents=True)
        (evaluations / part / "Ses01F_impro01_e2_cat.txt").write_text("Ses01F_impro01_F000 :Neutral; ()\n")
    transcriptions.mkdir()
    (folder / "sentences" / "wav").mkdir(parents=True)
    dialogues: dict[str, list[str]] = {}
    for turn in turns:
        dialogues.setdefault(turn.rpartition("_")[0], []).append(turn)
    for dialogue, members in dialogues.items():
        evaluation = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        transcription = ""
        for i, turn in enumerate(members):
            emotion, text = turns[turn]
            evaluation += BLOCK.format(start=i, end=i + 0.9, turn=turn, emotion=emotion)
            transcription += f"{turn} [{i:08.4f}-{i + 0.9:08.4f}]: {text}\n"
        (evaluations / f"{dialogue}.txt").write_text(evaluation)
        (transcriptions / f"{dialogue}.txt").write_text(transcription + "M: He never said that.\n")
        write_clips(folder / "sentences" / "wav" / dialogue, *[f"{turn}.wav" for turn in members])
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    for hidden in (evaluations, transcriptions):
        (hidden / "._Ses01F_impro01.txt").write_bytes(b"\0\5\x16\7\xff")
    first = next(iter(dialogues))
    (folder / "sentences" / "wav" / first / f"._{dialogues[first][0]}.wav").write_bytes(b"\0\5\x16\7")


def release(folder: Path) -> Path:
    session(
        folder,
        1,
        {
            "Ses01F_impro01_F000": ("neu", "Excuse me."),
            "Ses01F_impro01_M000": ("ang", "Do you have your forms?"),
            "Ses01F_script01_2_F001": ("exc", "I know, I can't wait."),
            "Ses01M_impro02_M003": ("sad", "It's alright."),
        },
    )
    session(folder, 5, {"Ses05M_script01_1b_F000": ("hap", "Hello."), "Ses05M_script01_1b_M001": ("neu", "Yes.")})
    return folder


def test_every_field_of_a_turn(tmp_path: Path) -> None:
    corpus = IEMOCAP(str(release(tmp_path))).read()
    assert corpus.skipped == []
    path = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000"
    labels = {"emotion": "angry", "gender": "male", "session": "1", "utterance_type": "improvised"}
    text = "Do you have your forms?"
    # The F of Ses01F is who wears the markers; the M of M000 is who speaks.
    expected = Utterance(path, tmp_path / f"{path}.wav", 0.0, None, text, "Ses01M", "train", labels)
    assert corpus.utterances[1] == expected
    assert [(Path(u.id).name, u.speaker, u.labels["gender"], u.split) for u in corpus.utterances] == [
        ("Ses01F_impro01_F000", "Ses01F", "female", "train"),
        ("Ses01F_impro01_M000", "Ses01M", "male", "train"),
        ("Ses01F_script01_2_F001", "Ses01F", "female", "train"),
        ("Ses01M_impro02_M003", "Ses01M", "male", "train"),
        ("Ses05M_script01_1b_F000", "Ses05F", "female", "test"),
        ("Ses05M_script01_1b_M001", "Ses05M", "male", "test"),
    ]
    assert [u.labels["utterance_type"] for u in corpus.utterances][2:5] == ["scripted", "improvised", "scripted"]


def emotions(folder: Path, **options: Any) -> dict[str, int]:
    return Counter(u.labels["emotion"] for u in IEMOCAP(str(folder), **options).read().utterances)


def test_excited_counts_as_happy_unless_it_is_asked_for(tmp_path: Path) -> None:
    release(tmp_path)
    assert emotions(tmp_path) == {"neutral": 2, "angry": 1, "happy": 2, "sad": 1}
    assert emotions(tmp_path, emotions=["happy", "excited"]) == {"happy": 1, "excited": 1}
    assert emotions(tmp_path, emotions=None) == {"neutral": 2, "angry": 1, "happy": 1, "excited": 1, "sad": 1}
    assert emotions(tmp_path, balanced=True) == {"neutral": 1, "angry": 1, "happy": 1, "sad": 1}


def test_the_test_session_decides_the_splits(tmp_path: Path) -> None:
    release(tmp_path)
    splits = {u.id[:8]: u.split for u in IEMOCAP(str(tmp_path), test_session=1).read().utterances}
    assert splits == {"Session1": "test", "Session5": "train"}
    assert {u.split for u in IEMOCAP(str(tmp_path), test_session=None).read().utterances} == {None}


def test_every_turn_that_cannot_be_used_has_its_reason(tmp_path: Path) -> None:
    turns = {
        "Ses05F_impro01_F000": ("neu", "Fine."),
        "Ses05F_impro01_F001": ("xxx", "What?"),
        "Ses05F_impro01_F002": ("fru", "Come on."),
        "Ses05F_impro01_F003": ("abc", "Well."),
        "Ses05F_impro01_F004": ("sad", "[LAUGHTER] okay. [BREATHING]"),
        "Ses05F_impro01_F005": ("sad", "[GARBAGE]"),
        "Ses05F_impro01_F006": ("sad", "No <NOISE> more."),
        "Ses05F_impro01_F007": ("sad", " "),
        "Ses05F_impro01_F008": ("sad", "Gone."),
        "Ses05F_impro01_F009": ("sad", "Empty."),
    }
    session(tmp_path, 5, turns)
    wav = tmp_path / "Session5/sentences/wav/Ses05F_impro01"
    (wav / "Ses05F_impro01_F008.wav").unlink()
    (wav / "Ses05F_impro01_F009.wav").write_bytes(b"")
    write_clips(wav, "Ses05F_impro01_MXX0.wav", "Ses05F_impro01_M099.wav", "room_tone.wav")
    with (tmp_path / "Session5/dialog/EmoEvaluation/Ses05F_impro01.txt").open("a") as file:
        file.write(BLOCK.format(start=9, end=9.5, turn="Ses05F_impro01_M099", emotion="sad"))
    corpus = IEMOCAP(str(tmp_path)).read()
    assert [Path(u.id).name for u in corpus.utterances] == ["Ses05F_impro01_F000"]
    reasons = {Path(s.id).name.removeprefix("Ses05F_impro01_"): s.reason for s in corpus.skipped}
    assert reasons == {
        "F001": "raters did not agree on an emotion (xxx)",
        "F002": "emotion 'frustrated' is not wanted",
        "F003": "emotion 'abc' is unknown; expected one of ang, dis, exc, fea, fru, hap, neu, oth, sad, sur",
        "F004": "transcription marks what is no word: [BREATHING], [LAUGHTER]",
        "F005": "transcription has no words",
        "F006": "transcription marks what is no word: <NOISE>",
        "F007": "transcription has no words",
        "F008": f"audio file {wav / 'Ses05F_impro01_F008.wav'} does not exist",
        "F009": "sound file is empty",
        "MXX0": "has no line in dialog/EmoEvaluation",
        "M099": "has no line in dialog/transcriptions",
        "room_tone": "name is not of IEMOCAP, as Ses01F_impro01_F000 is",
    }
    unmarked = {Path(u.id).name[-4:]: u for u in IEMOCAP(str(tmp_path), drop_marked=False).read().utterances}
    assert {name: u.transcription for name, u in unmarked.items()} == {
        "F000": "Fine.",
        "F004": "okay.",
        "F006": "No more.",
    }


def test_text_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    session(tmp_path, 5, {"Ses05F_impro01_F000": ("neu", "x")})
    file = tmp_path / "Session5/dialog/transcriptions/Ses05F_impro01.txt"
    file.write_bytes(b"Ses05F_impro01_F000 [000.0000-000.9000]: I don\x92t.\r\n")
    assert IEMOCAP(str(tmp_path)).read().utterances == [
        Utterance(
            "Session5/sentences/wav/Ses05F_impro01/Ses05F_impro01_F000",
            tmp_path / "Session5/sentences/wav/Ses05F_impro01/Ses05F_impro01_F000.wav",
            transcription="I don\N{RIGHT SINGLE QUOTATION MARK}t.",
            speaker="Ses05F",
            split="test",
            labels={"emotion": "neutral", "gender": "female", "session": "5", "utterance_type": "improvised"},
        )
    ]


def test_the_order_of_what_is_skipped_is_that_of_the_turns(tmp_path: Path) -> None:
    session(tmp_path, 5, {f"Ses05F_impro01_F00{i}": ("neu" if i else "xxx", "Yes.") for i in range(3)})
    assert IEMOCAP(str(tmp_path)).read().skipped == [
        Skipped("Session5/sentences/wav/Ses05F_impro01/Ses05F_impro01_F000", "raters did not agree on an emotion (xxx)")
    ]


def test_a_wrong_folder_is_named_with_what_is_expected(tmp_path: Path) -> None:
    release(tmp_path / "IEMOCAP_full_release")
    with pytest.raises(UserError, match="no Session1/dialog/EmoEvaluation; give the folder IEMOCAP_full_release itse"):
        IEMOCAP(str(tmp_path)).read()


def test_half_a_session_is_refused(tmp_path: Path) -> None:
    release(tmp_path)
    (tmp_path / "Session2" / "dialog").mkdir(parents=True)
    with pytest.raises(UserError, match="Session2 has no dialog/EmoEvaluation; unpack the whole session"):
        IEMOCAP(str(tmp_path)).read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_session": 6}, "field 'test_session' is 6; expected 1 to 5, or null"),
        ({"test_session": 3}, "no Session3 to test on; .* one that is there: 1, 5"),
        ({"emotions": ["joy"]}, r"field 'emotions' is \['joy'\]; expected some of angry, disgusted, excited"),
        ({"emotions": ["fearful"]}, "no utterance that can be used; the first of 6 problems: emotion"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        IEMOCAP(str(release(tmp_path)), **options).read()
