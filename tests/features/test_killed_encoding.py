"""A process that is killed while it encodes: what it loses, and what the next one does again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from killed import KILLED, forked

from disentangle_lightning.features.extract import encode
from disentangle_lightning.features.layout import Sidecar

LENGTHS = [8000 - 160 * i for i in range(24)]  # each its own batch, of 24 frames down to 12
SHARD = 0.005  # megabytes: five or more of them


def shard_files(store: Path) -> dict[str, tuple[int, int, bytes]]:
    """{name: (inode, time of the last change, content)} of everything whose sidecar says that it is finished."""
    files = [file for side in (store / "shards").glob("*.json") for file in (side, side.with_suffix(".safetensors"))]
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def finished(store: Path) -> set[str]:
    return {entry["id"] for side in (store / "shards").glob("*.json") for entry in Sidecar.read(side).utterances}


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("fatal_call", [0, 7, 13, 23])
def test_a_killed_encoding_loses_one_shard_at_most_and_nothing_finished_is_done_again(
    make_manifest, encoder, tmp_path, fatal_call, streams
):
    manifest = make_manifest(LENGTHS)
    encode(manifest, encoder, tmp_path / "whole", shard_megabytes=SHARD)
    begun = tmp_path / "begun"

    def note_and_perhaps_die(call: int) -> None:
        with begun.open("a") as file:
            file.write(f"{call}\n")
        if call == fatal_call:
            time.sleep(0.2)  # what was encoded before has been handed on
            os.kill(os.getpid(), signal.SIGKILL)

    encoder.before_call, encoder.calls = note_and_perhaps_die, 0
    store = tmp_path / "store"
    run = lambda: encode(manifest, encoder, store, shard_megabytes=SHARD, streams=streams)  # noqa: E731
    assert forked(run, tmp_path / "log") == KILLED
    kept, before = finished(store), shard_files(store)
    in_one_shard = max(len(Sidecar.read(side).utterances) for side in (tmp_path / "whole/shards").glob("*.json"))
    encoded = fatal_call - (streams - 1)  # the other stream may have been at work too
    assert encoded - len(kept) <= in_one_shard + 2 * streams

    encoder.before_call, encoder.calls = lambda call: None, 0
    assert run().encoded == len(LENGTHS)
    assert encoder.calls == len(LENGTHS) - len(kept)
    after = shard_files(store)
    assert before.items() <= after.items()
    assert {name: data for name, (_, _, data) in after.items()} == {
        name: data for name, (_, _, data) in shard_files(tmp_path / "whole").items()
    }
    assert json.loads((store / "complete.json").read_text()) == json.loads(
        (tmp_path / "whole/complete.json").read_text()
    )
    assert not list(store.rglob("*.tmp"))
