"""VoxCeleb1 in its published layout: the two official protocols, and names from everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clip

from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.corpus.voxceleb1 import VoxCeleb1
from disentangle_lightning.errors import UserError

META = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
    "id10045\tBeyoncé\tf\tUSA\tdev\n"
    "id10270\tEartha_Kitt\tf\tUSA\ttest\n"
)
CLIPS = {
    "id10001/1zcIwhmdeo4/00001.wav": 1,
    "id10001/-7gTAy-aNCs/00002.wav": 2,
    "id10001/_cb1XJ8uXTo/00001.wav": 3,
    "id10045/3h-OKZNFpBs/00001.wav": 1,
    "id10270/5r0dWxy17C8/00001.wav": 3,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for clip in CLIPS:
        write_clip(tmp_path / "wav" / clip, seconds=0.3 if clip.startswith("id10045") else 0.1)
    (tmp_path / "iden_split.txt").write_text("".join(f"{n} {clip}\n" for clip, n in CLIPS.items()))
    (tmp_path / "vox1_meta.csv").write_text(META, encoding="utf-8")
    (tmp_path / "wav/id10001/1zcIwhmdeo4/._00001.wav").write_bytes(b"macOS")
    return tmp_path


def test_every_field_of_an_utterance(folder: Path) -> None:
    corpus = VoxCeleb1(str(folder)).read()
    assert corpus.skipped == []
    assert corpus.utterances[0] == Utterance(
        "id10001/1zcIwhmdeo4/00001", folder / "wav/id10001/1zcIwhmdeo4/00001.wav",
        speaker="id10001", split="train", labels={"gender": "male", "nationality": "Ireland"},
    )  # fmt: skip


def test_identification_is_split_by_video_within_speakers(folder: Path) -> None:
    splits = {f"{u.id}.wav": u.split for u in VoxCeleb1(str(folder)).read().utterances}
    assert splits == {clip: {1: "train", 2: "dev", 3: "test"}[n] for clip, n in CLIPS.items()}


def test_verification_is_split_by_speaker(folder: Path) -> None:
    (folder / "iden_split.txt").unlink()
    corpus = VoxCeleb1(str(folder), "verification").read()
    assert {(u.speaker, u.split) for u in corpus.utterances} == {
        ("id10001", "train"), ("id10045", "train"), ("id10270", "test"),
    }  # fmt: skip
    assert len(corpus.utterances) == 5
    assert corpus.skipped == []


def test_identification_needs_no_meta_table(folder: Path) -> None:
    (folder / "vox1_meta.csv").unlink()
    utterances = VoxCeleb1(str(folder)).read().utterances
    assert len(utterances) == 5
    assert all(u.labels == {} for u in utterances)


def test_what_cannot_be_used_is_listed(folder: Path) -> None:
    gone = folder / "wav/id10045/3h-OKZNFpBs/00001.wav"
    gone.unlink()
    assert VoxCeleb1(str(folder)).read().skipped == [
        Skipped("id10045/3h-OKZNFpBs/00001", f"audio file {gone} does not exist")
    ]
    write_clip(folder / "wav/id99999/x/00001.wav")
    assert VoxCeleb1(str(folder), "verification").read().skipped == [
        Skipped("id99999/x/00001", f"its speaker is not in {folder / 'vox1_meta.csv'}")
    ]


def test_lengths_and_numbers_are_limited(folder: Path) -> None:
    corpus = VoxCeleb1(str(folder), max_seconds=0.2, clips={"test": 1}).read()
    assert sorted(str(u.split) for u in corpus.utterances) == ["dev", "test", "train"]
    assert corpus.skipped == [Skipped("id10045/3h-OKZNFpBs/00001", "lasts 0.30 s, more than max_seconds 0.2")]


def test_wrong_folders_tables_and_options_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchaudio.datasets.voxceleb1 as published

    monkeypatch.setattr(published, "download_url_to_file", lambda *_: pytest.fail("went to the network"))
    with pytest.raises(UserError, match=r"has no sub-folder wav; unpack vox1_dev_wav.zip and vox1_test_wav.zip"):
        VoxCeleb1(str(folder / "wav")).read()
    with pytest.raises(UserError, match="'protocol' is 'speaker'; expected identification or verification"):
        VoxCeleb1(str(folder), "speaker")
    for content in ("1 id10001\n", "1\n", "one id10001/1zcIwhmdeo4/00001.wav\n", "1 A.J._Buckley/1zcIwhmdeo4/1.wav\n"):
        (folder / "iden_split.txt").write_text(content)
        with pytest.raises(UserError, match=r"iden_split.txt is not the published table"):
            VoxCeleb1(str(folder)).read()
    (folder / "iden_split.txt").unlink()
    with pytest.raises(UserError, match=r"has no iden_split.txt, which the protocol 'identification' needs"):
        VoxCeleb1(str(folder)).read()
    (folder / "vox1_meta.csv").write_text(META.replace("\t", ","))
    with pytest.raises(UserError, match=r"vox1_meta.csv is not the published table"):
        VoxCeleb1(str(folder), "verification").read()
