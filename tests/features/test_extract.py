"""Several batches encoded at once, the figures of a run, and its progress bar."""

from __future__ import annotations

import io
import threading
import time

import pytest
import torch
from rich.console import Console

from disentangle_lightning.corpus.manifest import read_manifest
from disentangle_lightning.features import progress
from disentangle_lightning.features.extract import encode, longest_first
from disentangle_lightning.features.store import FeatureStore

LENGTHS = [1600 + 320 * (i % 7) for i in range(30)] + [200]


@pytest.mark.parametrize("streams", [2, 5])
def test_batches_that_are_encoded_at_once_give_the_same_store(make_manifest, encoder, tmp_path, streams):
    manifest = make_manifest(LENGTHS)
    one = encode(manifest, encoder, tmp_path / "one", batch_seconds=0.3, shard_megabytes=0.004)
    at_once, most, lock = [0], [0], threading.Lock()
    own = type(encoder).__call__

    class Slow(type(encoder)):
        def __call__(self, waveforms):
            with lock:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
            assert torch.get_num_threads() == 1
            time.sleep(0.01 * (waveforms.shape[1] % 3))  # so that later batches are ready before earlier ones
            features = own(self, waveforms)
            with lock:
                at_once[0] -= 1
            return features

    torch.set_num_threads(2)
    try:
        several = encode(
            manifest, Slow(), tmp_path / "several", batch_seconds=0.3, shard_megabytes=0.004, streams=streams
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert 1 < most[0] <= streams
    assert (several.encoded, several.skipped) == (one.encoded, one.skipped)
    shards = [{f.name: f.read_bytes() for f in (tmp_path / name / "shards").iterdir()} for name in ("one", "several")]
    assert len(shards[0]) > 2
    assert shards[0] == shards[1]


def test_an_error_in_one_of_several_streams_ends_the_run_and_gives_the_threads_back(make_manifest, encoder, tmp_path):
    def fail(call: int) -> None:
        if call == 3:
            raise MemoryError

    encoder.before_call = fail
    torch.set_num_threads(2)
    try:
        with pytest.raises(MemoryError):
            encode(make_manifest(LENGTHS), encoder, tmp_path / "store", batch_seconds=0.1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_speed_is_of_what_this_run_encoded(make_manifest, encoder, tmp_path):
    manifest = make_manifest([16_000] * 4)
    encoder.before_call = lambda call: time.sleep(0.1)
    summary = encode(manifest, encoder, tmp_path / "store", batch_seconds=1)
    assert 0 < summary.speed < 10  # four seconds of audio in more than 0.4 s
    assert encode(manifest, encoder, tmp_path / "store").speed is None


@pytest.mark.parametrize("layers", [None, [2], [1, 4]])
def test_nan_in_a_layer_that_is_not_kept_costs_no_utterance(make_manifest, encoder, tmp_path, layers):
    class Spoilt(type(encoder)):
        def __call__(self, waveforms):
            features = super().__call__(waveforms)
            features[0, 3, 2, 1] = torch.nan
            return features

    summary = encode(make_manifest([1600, 1600, 3200]), Spoilt(), tmp_path / "store", layers=layers, batch_seconds=0.2)
    assert [skip.id for skip in summary.skipped] == ([] if layers else ["u002", "u000"])
    for index in range(summary.encoded):
        assert FeatureStore.open(tmp_path / "store").read(index).isfinite().all()


def test_the_bar_shows_clips_speed_and_the_time_that_remains(make_manifest, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    seconds = {u.id: length for u, length in longest_first(read_manifest(make_manifest([64_000, 32_000, 16_000])))}
    assert seconds == {"u000": 4.0, "u001": 2.0, "u002": 1.0}
    with progress.encoding_progress(seconds, finished={"u000"}) as advance:
        time.sleep(0.02)
        advance(["u001"])
        time.sleep(0.02)
        advance(["u002"])
    shown = [line for line in screen.getvalue().splitlines() if "clips" in line]
    assert "1 of 3 clips" in shown[0]
    assert "3 of 3 clips" in shown[-1]
    assert "x real time" in shown[-1]


def test_no_bar_where_nobody_looks(capsys):
    with progress.encoding_progress({"u000": 4.0}, finished=()) as advance:
        advance(["u000"])
    assert capsys.readouterr() == ("", "")
