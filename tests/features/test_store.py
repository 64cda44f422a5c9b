"""Encoding into a store and reading it back, and everything that can go wrong in between."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.manifest import Utterance, read_manifest, write_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.extract import encode
from disentangle_lightning.features.layout import FORMAT
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.features.writer import StoreWriter

LENGTHS = [1600, 3200, 1600, 4800, 3200, 3200, 8000, 4800, 1600, 400]
SHARD = 0.0012  # megabytes: three shards, of two, one and two batches


def shards(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((store / "shards").iterdir())}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_read_is_what_the_encoder_made(make_manifest, encoder, tmp_path, dtype):
    manifest = make_manifest(LENGTHS)
    summary = encode(manifest, encoder, tmp_path / "store", dtype=dtype, shard_megabytes=SHARD)
    store = FeatureStore.open(tmp_path / "store")
    assert summary.encoded == len(store) == len(LENGTHS)
    assert store.dtype == getattr(torch, dtype)
    assert len(shards(tmp_path / "store")) >= 2 * 3
    for utterance in read_manifest(manifest):
        index = store.ids.index(utterance.id)
        expected = encoder(load_utterance(utterance)[None])[0].to(store.dtype)
        assert store.lengths[index] == len(expected)
        torch.testing.assert_close(store.read(index), expected)


def test_layers_go_by_their_number_in_the_encoder(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "store", dtype="float32", layers=[4, 2, 3])
    store = FeatureStore.open(tmp_path / "store")
    expected = encoder(load_utterance(read_manifest(manifest)[0])[None])[0]
    index = store.ids.index("u000")
    assert store.layers == [2, 3, 4]
    torch.testing.assert_close(store.read(index), expected[:, 1:])
    torch.testing.assert_close(store.read(index, [3, 4]), expected[:, 2:])
    torch.testing.assert_close(store.read(index, [4, 2]), expected[:, [3, 1]])
    with pytest.raises(UserError, match=r"layers \[1\] were asked for, .* holds layers \[2, 3, 4\]"):
        store.read(index, [1])


@pytest.mark.parametrize("layers", [[], [0], [5]])
def test_layers_outside_the_encoder_are_refused(make_manifest, encoder, tmp_path, layers):
    with pytest.raises(UserError, match="this encoder has layers 1 to 4"):
        encode(make_manifest([1600]), encoder, tmp_path / "store", layers=layers)


def test_clips_of_one_length_share_a_batch_up_to_its_limit(make_manifest, encoder, tmp_path):
    manifest = make_manifest([1600] * 10 + [3200] * 3)
    encode(manifest, encoder, tmp_path / "store", batch_seconds=0.4)
    assert encoder.calls == 2 + 3  # two of 0.2 s, then four of 0.1 s


@pytest.mark.parametrize("failing_call", [0, 1, 2, 4])
def test_an_interrupted_run_goes_on_and_makes_the_same_bytes(make_manifest, encoder, tmp_path, failing_call):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "whole", shard_megabytes=SHARD)
    calls, encoder.calls = encoder.calls, 0

    def interrupt(call: int) -> None:
        if call == failing_call:
            raise KeyboardInterrupt

    encoder.before_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    with pytest.raises(UserError, match="is incomplete; run encode again"):
        FeatureStore.open(tmp_path / "store")
    finished = {file: file.stat().st_mtime_ns for file in (tmp_path / "store/shards").iterdir()}
    encoder.before_call, encoder.calls = lambda call: None, 0
    summary = encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    assert summary.encoded == len(LENGTHS)
    assert shards(tmp_path / "store") == shards(tmp_path / "whole")
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert encoder.calls == calls - {0: 0, 1: 0, 2: 2, 4: 3}[failing_call]


def test_a_shard_without_its_sidecar_is_made_again(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    before = shards(tmp_path / "store")
    (tmp_path / "store/shards/00001.json").unlink()
    (tmp_path / "store/shards/00001.safetensors").write_bytes(b"half a sh")
    encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    assert shards(tmp_path / "store") == before


def test_a_complete_store_is_not_encoded_again_even_with_new_labels_and_splits(make_manifest, encoder, tmp_path):
    manifest = make_manifest([*LENGTHS, 100])
    first = encode(manifest, encoder, tmp_path / "store")
    changed = [replace(u, split="test", labels={"accent": "x"}) for u in read_manifest(manifest)]
    write_manifest(manifest, changed)
    calls = encoder.calls
    assert encode(manifest, encoder, tmp_path / "store") == first
    assert encoder.calls == calls


def test_two_processes_cannot_write_one_store(make_manifest, encoder, tmp_path):
    with (
        StoreWriter(tmp_path / "store", {"format": FORMAT}, 1000),
        pytest.raises(UserError, match="another process is writing feature store"),
    ):
        encode(make_manifest(LENGTHS), encoder, tmp_path / "store")


@pytest.mark.parametrize("good_writes", [0, 1, 4])
def test_a_full_disk_leaves_no_debris_and_the_run_goes_on_later(
    make_manifest, encoder, tmp_path, monkeypatch, good_writes
):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "whole", shard_megabytes=SHARD)
    left = [good_writes]

    def full(descriptor: int) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"the disk is full, .* run encode again, which goes on"):
            encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    assert not list((tmp_path / "store").rglob("*.tmp"))
    encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    assert shards(tmp_path / "store") == shards(tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "identity", "message"),
    [
        ({}, {"fingerprint": "bbbb"}, "encoder fingerprint aaaa, but this run has bbbb"),
        ({}, {"window_seconds": 5}, "encoder window_seconds None, but this run has 5"),
        ({"dtype": "float32"}, {}, "dtype float16, but this run has float32"),
        ({"layers": [2]}, {}, r"layers \[1, 2, 3, 4\], but this run has \[2\]"),
    ],
)
def test_a_store_made_otherwise_is_refused(make_manifest, encoder, tmp_path, settings, identity, message):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "store")
    encoder.identity |= identity
    with pytest.raises(UserError, match=message):
        encode(manifest, encoder, tmp_path / "store", **settings)


def test_a_store_of_other_precision_format_or_audio_is_refused(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "store")
    encoder.precision = "bf16"
    with pytest.raises(UserError, match="precision fp32, but this run has bf16"):
        encode(manifest, encoder, tmp_path / "store")
    encoder.precision = "fp32"
    write_manifest(manifest, read_manifest(manifest)[1:])
    with pytest.raises(UserError, match=r"manifest_sha256 \w+, but this run has \w+"):
        encode(manifest, encoder, tmp_path / "store")
    header = json.loads((tmp_path / "store/header.json").read_text())
    (tmp_path / "store/header.json").write_text(json.dumps(header | {"format": 0}))
    with pytest.raises(UserError, match=f"format 0, but this run has {FORMAT}"):
        encode(manifest, encoder, tmp_path / "store")
    with pytest.raises(UserError, match=f"has format 0, but this version reads format {FORMAT}"):
        FeatureStore.open(tmp_path / "store")


def test_the_same_weights_under_another_name_are_the_same_encoder(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "store")
    encoder.identity |= {"name": "/a/folder", "revision": "abc", "transformers": "5.99"}
    assert encode(manifest, encoder, tmp_path / "store").encoded == len(LENGTHS)


def flip(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (flip, r"00001.safetensors is damaged \(the checksum differs\); delete it and run encode again"),
        (lambda shard: os.truncate(shard, 100), r"00001.safetensors is damaged \(100 bytes instead of \d+\)"),
        (Path.unlink, "00001.safetensors is missing; run encode again"),
        (
            lambda shard: shard.with_suffix(".json").write_text("{"),
            "00001.json is damaged; delete it and run",
        ),
    ],
)
def test_a_damaged_shard_is_named_and_its_remedy_works(make_manifest, encoder, tmp_path, harm, message):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    before = shards(tmp_path / "store")
    shard = tmp_path / "store/shards/00001.safetensors"
    harm(shard)
    with pytest.raises(UserError, match=message):
        FeatureStore.open(tmp_path / "store")
    named = shard.with_suffix(".json") if ".json" in message else shard
    named.unlink(missing_ok=True)
    encode(manifest, encoder, tmp_path / "store", shard_megabytes=SHARD)
    assert shards(tmp_path / "store") == before
    assert len(FeatureStore.open(tmp_path / "store")) == len(LENGTHS)


def test_checksums_are_compared_only_when_asked(make_manifest, encoder, tmp_path):
    encode(make_manifest(LENGTHS), encoder, tmp_path / "store", shard_megabytes=SHARD)
    flip(tmp_path / "store/shards/00001.safetensors")
    assert len(FeatureStore.open(tmp_path / "store", verify=False)) == len(LENGTHS)


def test_no_store_is_not_a_store(tmp_path):
    with pytest.raises(UserError, match="does not exist; make it with encode"):
        FeatureStore.open(tmp_path / "nowhere")


def spoil(folder: Path) -> dict[str, str]:
    """Spoil the audio of the first clips, each in its own way: {id: what the reason must say}."""
    (folder / "clip000.wav").unlink()
    soundfile.write(folder / "clip001.wav", np.zeros(1600), 16_000)
    noise = np.random.default_rng(0).uniform(-1, 1, 1600).astype(np.float32)
    soundfile.write(folder / "clip002.wav", np.where(np.arange(1600) == 5, np.nan, noise), 16_000, subtype="FLOAT")
    (folder / "clip003.wav").write_text("this is no audio")
    os.truncate(folder / "clip004.wav", 3000)
    soundfile.write(folder / "clip005.wav", noise[:399], 16_000)
    soundfile.write(folder / "clip006.wav", np.tile(noise, 21), 16_000)
    soundfile.write(folder / "clip007.wav", np.full(1600, 0.987654321, np.float32), 16_000, subtype="FLOAT")
    return {
        "u000": "does not exist",
        "u001": "silent",
        "u002": "NaN",
        "u003": "cannot be decoded",
        "u004": "truncated",
        "u005": "399 samples at 16 kHz; the encoder needs at least 400",
        "u006": "33600 samples at 16 kHz; the encoder takes 32000 at most",
        "u007": "the encoder made NaN",
    }


def test_clips_that_cannot_be_encoded_are_left_out_listed_and_nothing_else_is(make_manifest, tmp_path, encoder):
    class Fragile(type(encoder)):
        def __call__(self, waveforms):
            features = super().__call__(waveforms)
            features[(waveforms == waveforms[:, :1]).all(dim=1), 0, 0, 0] = torch.nan
            return features

    manifest = make_manifest([1600] * 12)
    reasons = spoil(tmp_path)
    summary = encode(manifest, Fragile(), tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    assert {skip.id for skip in summary.skipped} == set(reasons)
    for skip in summary.skipped:
        assert reasons[skip.id] in skip.reason
    assert store.skipped == summary.skipped
    assert summary.encoded == 4
    assert sorted(store.ids) == ["u008", "u009", "u010", "u011"]


def test_a_corpus_of_which_nothing_can_be_encoded_is_an_error(make_manifest, encoder, tmp_path):
    with pytest.raises(UserError, match=r"none of the 2 utterances .* 'u000': 200 samples"):
        encode(make_manifest([200, 100]), encoder, tmp_path / "store")


def test_values_too_large_for_float16_are_refused_and_bfloat16_takes_them(make_manifest, encoder, tmp_path):
    encoder.scale = 1e5
    manifest = make_manifest(LENGTHS)
    with pytest.raises(UserError, match=r"do not fit float16: .* encode with dtype bfloat16"):
        encode(manifest, encoder, tmp_path / "half")
    assert encode(manifest, encoder, tmp_path / "brain", dtype="bfloat16").skipped == []


def test_a_store_may_have_more_shards_than_files_may_be_open(make_manifest, encoder, tmp_path):
    encode(make_manifest([1600 + 16 * i for i in range(90)]), encoder, tmp_path / "store", shard_megabytes=0)
    open_now = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 20, hard))
    try:
        store = FeatureStore.open(tmp_path / "store")
        total = sum(len(store.read(index)) for index in range(len(store)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert total == store.lengths.sum()


def test_a_store_travels_to_another_process_without_its_features(make_manifest, encoder, tmp_path):
    encode(make_manifest([30_000] * 20), encoder, tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    features = store.read(3)
    sent = pickle.dumps(store)
    assert len(sent) < 5000
    assert torch.equal(pickle.loads(sent).read(3), features)


def test_a_cut_of_a_long_file_is_encoded_as_that_cut(make_manifest, encoder, tmp_path):
    def cut(utterance: Utterance, i: int) -> Utterance:
        return replace(utterance, start=0.5, duration=0.25) if i == 0 else utterance

    manifest = make_manifest([16_000, 4000], cut)
    encode(manifest, encoder, tmp_path / "store", dtype="float32")
    store = FeatureStore.open(tmp_path / "store")
    waveform, _ = soundfile.read(tmp_path / "clip000.wav", dtype="float32")
    expected = encoder(torch.from_numpy(waveform[8000:12_000])[None])[0]
    assert encoder.calls == 2  # the cut shared a batch with the file of its length
    torch.testing.assert_close(store.read(store.ids.index("u000")), expected)
