"""A store that several jobs encode in parts, and the merge that makes one store of them, whatever happens between."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_lightning.corpus.manifest import Utterance, read_manifest, write_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.extract import SpeechEncoder, encode
from disentangle_lightning.features.merge import merge
from disentangle_lightning.features.parts import Part, parts_of
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.features.writer import StoreWriter

LENGTHS = [1600, 3200, 1600, 4800, 3200, 3200, 8000, 4800, 1600, 400, 200, 1600]  # the last but one is too short
SHARD = 0.0012  # megabytes: a few shards for each part


def encode_parts(manifest: Path, encoder: SpeechEncoder, store: Path, count: int, **settings: Any) -> None:
    for number in range(1, count + 1):
        encode(manifest, encoder, store, part=Part(number, count), shard_megabytes=SHARD, **settings)


def content(path: Path) -> dict[str, Tensor]:
    """{id: features} of a store that is opened with all its checksums."""
    store = FeatureStore.open(path, verify=True)
    return {id: store.read(index) for index, id in enumerate(store.ids)}


def assert_same_store(path: Path, whole: Path) -> None:
    ours, theirs = content(path), content(whole)
    assert ours.keys() == theirs.keys()
    for id, features in theirs.items():
        assert torch.equal(ours[id], features), id
    assert sorted(FeatureStore.open(path).skipped, key=str) == sorted(FeatureStore.open(whole).skipped, key=str)
    assert FeatureStore.open(path).header == FeatureStore.open(whole).header
    assert not (path / "parts").exists()


@pytest.mark.parametrize("text", ["0/4", "5/4", "x", "1", "1/0", "/", "1/4/2", "-1/4", "1.5/4", "merged", ""])
def test_what_is_no_part_is_refused_with_an_example(text):
    with pytest.raises(UserError, match=r"field 'shard' is '.*'; expected i/n with i from 1 to n, such as 1/4, or me"):
        Part.parse(text)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 11])
def test_parts_share_everything_once_and_evenly(count):
    items = list(range(10))
    shares = [Part(number, count).share(items) for number in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Part.parse(f"{count}/{count}").share(items) == shares[-1]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize(("count", "clips"), [(1, 12), (2, 12), (3, 12), (20, 10)])
def test_merged_parts_are_the_store_that_is_encoded_as_a_whole(make_manifest, encoder, tmp_path, count, clips, dtype):
    manifest = make_manifest(LENGTHS[:clips])
    encode(manifest, encoder, tmp_path / "whole", dtype=dtype, shard_megabytes=SHARD)
    store = tmp_path / "store"
    encode_parts(manifest, encoder, store, count, dtype=dtype)
    summary = merge(manifest, encoder, store, dtype)
    assert (summary.path, summary.encoded + len(summary.skipped)) == (store, clips)
    assert_same_store(store, tmp_path / "whole")

    calls = encoder.calls
    assert merge(manifest, encoder, store, dtype) == summary
    assert encode(manifest, encoder, store, dtype=dtype) == summary
    assert encode(manifest, encoder, store, dtype=dtype, part=Part(1, count)) == summary
    with pytest.raises(UserError, match="was made with dtype"):
        encode(manifest, encoder, store, dtype="float32", part=Part(1, count))
    assert not (store / "parts").exists()
    assert encoder.calls == calls


def test_a_part_is_resumed_like_a_store(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    first = encode(manifest, encoder, tmp_path / "store", part=Part(1, 2))
    assert first.path == tmp_path / "store/parts/1-of-2"
    assert first.encoded + len(first.skipped) == len(LENGTHS) / 2
    calls = encoder.calls
    assert encode(manifest, encoder, tmp_path / "store", part=Part(1, 2)) == first
    assert encoder.calls == calls


def test_a_damaged_shard_of_a_merged_store_is_made_again_by_encode(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode_parts(manifest, encoder, tmp_path / "store", 3)
    merge(manifest, encoder, tmp_path / "store")
    before = content(tmp_path / "store")
    next((tmp_path / "store/shards").glob("*.safetensors")).unlink()
    with pytest.raises(UserError, match="is missing; run encode again"):
        FeatureStore.open(tmp_path / "store")
    encode(manifest, encoder, tmp_path / "store")
    after = content(tmp_path / "store")
    assert {id: features.sum() for id, features in after.items()} == {id: f.sum() for id, f in before.items()}


def test_parts_and_whole_stores_do_not_mix(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "parts_first", part=Part(1, 2))
    with pytest.raises(UserError, match=r"parts_first; put them together with encode --shard merge, or delete"):
        encode(manifest, encoder, tmp_path / "parts_first")
    with pytest.raises(UserError, match=r"holds parts of 2, and this is one of 3; encode with --shard i/2, or delete"):
        encode(manifest, encoder, tmp_path / "parts_first", part=Part(1, 3))
    encode(manifest, encoder, tmp_path / "whole")
    (tmp_path / "whole/complete.json").unlink()
    with pytest.raises(UserError, match=r"whole is half encoded as a whole and takes no parts; name another"):
        encode(manifest, encoder, tmp_path / "whole", part=Part(1, 2))
    with pytest.raises(UserError, match="none has no parts to merge; encode them with --shard 1/n to --shard n/n"):
        merge(manifest, encoder, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_part_of_which_nothing_can_be_encoded_is_an_error(make_manifest, encoder, tmp_path):
    manifest = make_manifest([1600, 200])
    with pytest.raises(UserError, match=r"none of the 1 utterances .* 'u001': 200 samples"):
        encode(manifest, encoder, tmp_path / "store", part=Part(2, 2))


def unfinish(store: Path) -> None:
    (store / "parts/2-of-3/complete.json").unlink()


def rename(store: Path) -> None:
    shutil.rmtree(store / "parts/1-of-3")
    shutil.copytree(store / "parts/2-of-3", store / "parts/1-of-3")


def other_count(store: Path) -> None:
    shutil.copytree(store / "parts/1-of-3", store / "parts/1-of-4")


def truncate(store: Path) -> None:
    os.truncate(store / "parts/2-of-3/shards/00000.safetensors", 10)


def edit_header(store: Path, **entries: Any) -> None:
    file = store / "parts/3-of-3/header.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (unfinish, r"part 2/3 is incomplete in .*parts; run encode --shard 2/3, then merge again"),
        (lambda s: shutil.rmtree(s / "parts/3-of-3"), r"part 3/3 is missing in .*parts; run encode --shard 3/3, then"),
        (rename, r"1-of-3 holds part 2/3, not 1/3"),
        (other_count, r"holds parts of 3 and parts of 4; delete those that are not wanted"),
        (
            truncate,
            r"00000.safetensors is damaged \(10 bytes instead of \d+\); delete it and run encode with --shard 2/",
        ),
        (
            lambda s: (s / "parts/2-of-3/shards/00000.json").unlink(),
            r"00000.safetensors is missing; run encode with --s",
        ),
        (lambda s: edit_header(s, dtype="float32"), r"3-of-3 was made with dtype float32, but this run has float16"),
        (lambda s: edit_header(s, manifest_sha256="0"), r"3-of-3 was made with manifest_sha256 0, but this run has"),
        (lambda s: edit_header(s, encoder={}), r"3-of-3 was made with encoder fingerprint None, but this run has aaaa"),
    ],
)
def test_what_does_not_fit_together_is_not_merged_and_nothing_is_lost(make_manifest, encoder, tmp_path, harm, message):
    manifest = make_manifest(LENGTHS)
    encode_parts(manifest, encoder, tmp_path / "store", 3)
    harm(tmp_path / "store")
    before = {file: file.stat().st_size for file in (tmp_path / "store").rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=message):
        merge(manifest, encoder, tmp_path / "store")
    assert {file: file.stat().st_size for file in (tmp_path / "store").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("harm", [unfinish, truncate, lambda s: shutil.rmtree(s / "parts/2-of-3")])
def test_the_remedy_that_a_refusal_names_works(make_manifest, encoder, tmp_path, harm):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "whole")
    encode_parts(manifest, encoder, tmp_path / "store", 3)
    harm(tmp_path / "store")
    with pytest.raises(UserError) as refusal:
        merge(manifest, encoder, tmp_path / "store")
    assert "--shard 2/3" in str(refusal.value)
    encode(manifest, encoder, tmp_path / "store", part=Part(2, 3), shard_megabytes=SHARD)
    merge(manifest, encoder, tmp_path / "store")
    assert_same_store(tmp_path / "store", tmp_path / "whole")


def test_parts_between_which_the_sound_files_changed_are_named(make_manifest, encoder, tmp_path):
    manifest = make_manifest([1600 + 320 * i for i in range(9)])
    encode(manifest, encoder, tmp_path / "whole")
    store, longest = tmp_path / "store", tmp_path / "clip008.wav"
    encode(manifest, encoder, store, part=Part(1, 3))
    longest.rename(tmp_path / "away.wav")  # so that every shorter clip moves up by one
    encode(manifest, encoder, store, part=Part(2, 3))
    (tmp_path / "away.wav").rename(longest)
    encode(manifest, encoder, store, part=Part(3, 3))
    with pytest.raises(UserError, match=r"is in [02] parts .* delete \S+/2-of-3 and encode --shard 2/3 again"):
        merge(manifest, encoder, store)
    shutil.rmtree(store / "parts/2-of-3")
    encode(manifest, encoder, store, part=Part(2, 3))
    merge(manifest, encoder, store)
    assert_same_store(store, tmp_path / "whole")


def test_shards_of_something_else_are_not_taken_into_the_store(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode_parts(manifest, encoder, tmp_path / "store", 2)
    encode(manifest, encoder, tmp_path / "other")
    shutil.copytree(tmp_path / "other/shards", tmp_path / "store/shards")
    with pytest.raises(UserError, match=r"shards holds 00000.json, which is of no part"):
        merge(manifest, encoder, tmp_path / "store")


def test_labels_may_change_between_parts_and_utterances_may_not(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "store", part=Part(1, 2))
    write_manifest(manifest, [replace(u, split="test", labels={"accent": "x"}) for u in read_manifest(manifest)])
    encode(manifest, encoder, tmp_path / "store", part=Part(2, 2))
    changed: list[Utterance] = read_manifest(manifest)[1:]
    other = tmp_path / "other.jsonl"
    write_manifest(other, changed)
    with pytest.raises(UserError, match="was made with manifest_sha256"):
        merge(other, encoder, tmp_path / "store")
    assert merge(manifest, encoder, tmp_path / "store").encoded == len(LENGTHS) - 1


class Dead(BaseException):
    """The process is gone: it does nothing more on the disk."""


def die_before_change(number: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the disk change so many times, then never again; returns what counts the changes."""
    changes = [0]

    def counted(own: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **named: Any) -> Any:
            if changes[0] == number:
                raise Dead
            changes[0] += 1
            return own(*arguments, **named)

        return change

    for owner, name in ((os, "replace"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (os, "mkdir"), (os, "fsync")):
        patch.setattr(owner, name, counted(getattr(owner, name)))
    return lambda: changes[0]


@pytest.mark.parametrize("between", [None, Part(2, 2)], ids=["", "with a part started again"])
def test_a_merge_that_dies_before_any_change_on_disk_is_completed_by_the_next(
    make_manifest, encoder, tmp_path, monkeypatch, between
):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "whole")
    encode_parts(manifest, encoder, tmp_path / "encoded", 2)
    store, died = tmp_path / "store", 0
    while True:
        shutil.copytree(tmp_path / "encoded", store)
        with monkeypatch.context() as patch:
            changes = die_before_change(died, patch)
            with suppress(Dead):
                merge(manifest, encoder, store)
        if changes() < died:
            break
        if between is not None and (store / "parts").exists() and not (store / "complete.json").exists():
            encode(manifest, encoder, store, part=between, shard_megabytes=SHARD)
        merge(manifest, encoder, store)
        assert_same_store(store, tmp_path / "whole")
        shutil.rmtree(store)
        died += 1
    assert died > 20


def test_a_merge_waits_for_no_other_one(make_manifest, encoder, tmp_path):
    manifest = make_manifest(LENGTHS)
    encode_parts(manifest, encoder, tmp_path / "store", 2)
    header = json.loads((tmp_path / "store/parts/1-of-2/header.json").read_text())
    with (
        StoreWriter(tmp_path / "store", header, 0),
        pytest.raises(UserError, match="another process is writing feature store"),
    ):
        merge(manifest, encoder, tmp_path / "store")
    merge(manifest, encoder, tmp_path / "store")


def test_a_full_disk_stops_a_merge_and_more_room_completes_it(make_manifest, encoder, tmp_path, monkeypatch):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "whole")
    encode_parts(manifest, encoder, tmp_path / "store", 2)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="the disk is full"):
            merge(manifest, encoder, tmp_path / "store")
    merge(manifest, encoder, tmp_path / "store")
    assert_same_store(tmp_path / "store", tmp_path / "whole")
    assert parts_of(tmp_path / "store") == []
