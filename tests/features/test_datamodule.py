"""What stands on a batch, and which corpora are refused before a training starts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.manifest import read_manifest, write_manifest
from disentangle_lightning.corpus.tokenizer import ENGLISH_ALPHABET, CTCTokenizer
from disentangle_lightning.errors import UserError
from disentangle_lightning.features import datamodule, residency
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.extract import encode
from disentangle_lightning.nn.segments import segment_sum


def rewrite(manifest: str, change) -> None:
    """Apply `change(utterance, i)` to every utterance; None leaves it as it is."""
    utterances = read_manifest(manifest)
    write_manifest(manifest, [change(u, i) or u for i, u in enumerate(utterances)])


@pytest.mark.parametrize("residency", ["disk", "host"])
def test_a_batch_holds_exactly_what_manifest_and_encoder_say(corpus, encoder, residency):
    manifest, store = corpus
    rewrite(manifest, lambda u, i: replace(u, labels={}) if i == 1 else None)
    rewrite(manifest, lambda u, i: replace(u, transcription=None) if i == 5 else None)
    data = FrameFeatureDataModule(
        manifest, store, ["speaker", "emotion"], max_frames=60, layers=[2, 4], residency=residency
    )
    utterances = {u.id: u for u in read_manifest(manifest)}
    tokenizer = CTCTokenizer(data.alphabet)
    seen = 0
    for batch in data.train_dataloader():
        assert batch.features.dtype == torch.float16
        assert batch.segments.max_length == int(batch.segments.lengths.max())
        ends = batch.segments.lengths.cumsum(0).tolist()
        target_ends = batch.target_lengths.cumsum(0).tolist()
        for i, id in enumerate(batch.ids):
            utterance = utterances[id]
            expected = encoder(load_utterance(utterance)[None])[0][:, [1, 3]].half()
            torch.testing.assert_close(batch.features[ends[i] - len(expected) : ends[i]], expected)
            assert bool((batch.segments.index[ends[i] - len(expected) : ends[i]] == i).all())
            text = utterance.transcription and tokenizer.normalize(utterance.transcription)
            assert batch.transcriptions[i] == text
            targets = batch.targets[target_ends[i] - int(batch.target_lengths[i]) : target_ends[i]]
            assert targets.tolist() == tokenizer.encode(text or "")
            for name in ("speaker", "emotion"):
                place = int(batch.labels[name][i])
                value = utterance.label(name)
                assert (data.label_names[name][place] if place >= 0 else None) == value
            seen += 1
    assert seen == 16


def test_the_attributes_size_a_model_and_are_plain(corpus):
    data = FrameFeatureDataModule(*corpus, ["emotion", "speaker"], layers=[3, 4])
    assert (data.num_layers, data.feature_dim) == (2, 6)
    assert data.alphabet == ENGLISH_ALPHABET
    assert data.label_names == {"emotion": ["happy", "sad"], "speaker": ["s0", "s1"]}
    assert data.feature_header["layers"] == [3, 4]
    assert data.feature_header["encoder"]["fingerprint"] == "aaaa"
    assert FrameFeatureDataModule(*corpus, []).num_layers == 4


def test_the_splits_go_to_their_loaders(corpus):
    data = FrameFeatureDataModule(*corpus, [], train_split="probe")
    loaders = (
        data.train_dataloader(),
        data.val_dataloader(),
        data.test_dataloader(),
        data.predict_dataloader(),
    )
    found = [{int(id[1:]) % 5 for batch in loader for id in batch.ids} for loader in loaders]
    assert found == [{2}, {3}, {4}, {4}]


def test_a_foreign_letter_in_training_makes_an_alphabet_of_what_occurs_and_a_digit_does_not(corpus):
    manifest, store = corpus
    rewrite(manifest, lambda u, i: replace(u, transcription="4 CABS") if i == 0 else None)
    assert FrameFeatureDataModule(manifest, store, []).alphabet == ENGLISH_ALPHABET
    rewrite(manifest, lambda u, i: replace(u, transcription="ßé") if u.split == "test" else None)
    assert FrameFeatureDataModule(manifest, store, []).alphabet == ENGLISH_ALPHABET
    rewrite(manifest, lambda u, i: replace(u, transcription="café") if i == 1 else None)
    assert FrameFeatureDataModule(manifest, store, []).alphabet == "'4ABCDEFIKRSTUÉ"
    assert FrameFeatureDataModule(manifest, store, [], alphabet="AB").alphabet == "AB"


def test_a_text_of_which_nothing_is_in_the_alphabet_counts_as_none(corpus):
    manifest, store = corpus
    rewrite(manifest, lambda u, i: replace(u, transcription="42") if u.split == "test" else None)
    for batch in FrameFeatureDataModule(manifest, store, []).test_dataloader():
        assert batch.transcriptions == [None] * len(batch)
        assert batch.target_lengths.sum() == 0


def test_utterances_that_encoding_skipped_are_left_out_and_counted(make_manifest, encoder, tmp_path):
    manifest = make_manifest([1600] * 10 + [100] * 3)
    encode(manifest, encoder, tmp_path / "store")
    data = FrameFeatureDataModule(str(manifest), str(tmp_path / "store"), [])
    assert data.skipped == 3
    (tmp_path / "store/skipped.jsonl").write_text("")
    with pytest.raises(UserError, match=r"3 utterances of the manifest are not in .* such as 'u010'; run encode"):
        FrameFeatureDataModule(str(manifest), str(tmp_path / "store"), [])


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (
            lambda u, i: None,
            {"labels": ["age"]},
            "no utterance has label 'age'; the manifest has emotion, speaker",
        ),
        (
            lambda u, i: replace(u, labels={"emotion": "sad"}) if u.split == "train" else None,
            {"labels": ["emotion"]},
            "label 'emotion' has only class 'sad' in split 'train'; a classifier needs two",
        ),
        (
            lambda u, i: replace(u, labels={}) if u.split == "probe" else None,
            {"labels": ["emotion"], "train_split": "probe"},
            "label 'emotion' has no class in split 'probe'",
        ),
        (
            lambda u, i: replace(u, speaker=f"new{i}") if i in (4, 9) else None,
            {"labels": ["speaker"]},
            "label 'speaker' has classes in split 'test' that no training split has: new4, new9;",
        ),
        (lambda u, i: replace(u, split=None), {}, "has no splits; assign train, probe, dev, test first"),
        (
            lambda u, i: replace(u, split="train") if u.split == "dev" else None,
            {},
            "has no utterances in split 'dev'",
        ),
        (lambda u, i: replace(u, id=f"x{i}"), {}, "was made of other audio than manifest"),
        (lambda u, i: None, {"layers": [5]}, r"layers \[5\] were asked for, .* holds layers \[1, 2, 3, 4\]"),
        (lambda u, i: None, {"train_split": "test"}, "train_split is 'test'; expected one of train, probe"),
        (lambda u, i: None, {"max_frames": 0}, "max_frames is 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(corpus, change, settings, message):
    manifest, store = corpus
    rewrite(manifest, change)
    with pytest.raises(UserError, match=message) as refusal:
        FrameFeatureDataModule(manifest, store, **{"labels": []} | settings)
    assert "\n" not in str(refusal.value)


def test_a_class_that_only_probe_has_is_known_to_the_stages_too(corpus):
    manifest, store = corpus
    rewrite(manifest, lambda u, i: replace(u, speaker="s9") if i == 2 else None)
    rewrite(manifest, lambda u, i: replace(u, speaker="s9") if i == 4 else None)
    assert FrameFeatureDataModule(manifest, store, ["speaker"]).label_names["speaker"] == ["s0", "s1", "s9"]


def test_what_is_hidden_need_not_be_known_where_nothing_is_hidden_from(corpus):
    manifest, store = corpus
    rewrite(manifest, lambda u, i: replace(u, speaker=f"new{i}") if u.split in ("dev", "test", "probe") else None)
    data = FrameFeatureDataModule(manifest, store, [], hidden_labels=["speaker"])
    assert data.label_names["speaker"] == ["s0", "s1"]
    data.setup("fit")
    trained = torch.cat([batch.labels["speaker"] for batch in data.train_dataloader()])
    known = torch.cat([batch.labels["speaker"] for batch in data.val_dataloader()])
    assert set(trained.tolist()) == {0, 1}
    assert set(known.tolist()) == {-1}
    rewrite(manifest, lambda u, i: replace(u, speaker="s0") if u.split == "train" else None)
    with pytest.raises(UserError, match="label 'speaker' has only class 's0' in split 'train'"):
        FrameFeatureDataModule(manifest, store, [], hidden_labels=["speaker"])


def test_an_incomplete_store_is_not_trained_on(corpus):
    manifest, store = corpus
    (Path(store) / "complete.json").unlink()
    with pytest.raises(UserError, match="is incomplete; run encode again"):
        FrameFeatureDataModule(manifest, store, [])


def test_features_stay_on_disk_unless_they_fit_in_a_quarter_of_the_memory(corpus, monkeypatch, caplog):
    data = FrameFeatureDataModule(*corpus, [], train_split="probe")
    size = sum(len(b.features) for b in (*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()))
    size *= 4 * 6 * 2
    for free, words in ((4 * size, "stay on disk"), (4 * size + 1, "read into memory")):
        monkeypatch.setattr(residency, "free_memory", lambda free=free: free)
        with caplog.at_level(logging.INFO):
            FrameFeatureDataModule(*corpus, [], train_split="probe").train_dataloader()
        assert words in caplog.messages[-1]


def test_where_features_go_is_asked_of_the_trainer_once_for_all_splits(corpus, monkeypatch):
    asked = []

    def choose(wanted, size, device, processes):
        asked.append((wanted, size, device.type, processes))
        return "device", "in words"

    monkeypatch.setattr(datamodule, "choose_residency", choose)
    data = FrameFeatureDataModule(*corpus, [], max_frames=60, seed=1)
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), num_devices=3)
    kept = [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]
    assert asked == [("auto", sum(len(batch.features) for batch in kept) * 4 * 6 * 2, "cpu", 3)]
    monkeypatch.undo()
    data = FrameFeatureDataModule(*corpus, [], max_frames=60, seed=1, residency="disk")
    read = [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]
    assert all(torch.equal(a.features, b.features) for a, b in zip(kept, read, strict=True))


def test_the_memory_that_is_free_is_no_more_than_the_machine_has():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < residency.free_memory() < total


def test_a_batch_moves_whole(corpus):
    batch = next(iter(FrameFeatureDataModule(*corpus, ["speaker"]).val_dataloader()))
    moved = batch.to("meta")
    tensors = [moved.features, moved.targets, moved.target_lengths, moved.labels["speaker"]]
    tensors += [moved.segments.lengths, moved.segments.index, moved.segments.position]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.ids == batch.ids
    counted = segment_sum(torch.ones(len(batch.features)), batch.segments)
    assert torch.equal(counted, batch.segments.lengths.float())
