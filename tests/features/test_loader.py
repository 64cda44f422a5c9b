"""Resuming in the middle of an epoch, alone and under a real Trainer."""

from __future__ import annotations

import signal
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from disentangle_lightning.errors import UserError
from disentangle_lightning.features import loader as loader_module
from disentangle_lightning.features.datamodule import FrameFeatureDataModule


def make_data(corpus, **settings) -> FrameFeatureDataModule:
    return FrameFeatureDataModule(*corpus, labels=["speaker"], **{"max_frames": 40} | settings)


def ids_of_epoch(loader, epoch: int) -> list[list[str]]:
    loader.sampler.set_epoch(epoch)
    return [batch.ids for batch in loader]


def test_an_epoch_delivers_every_utterance_once_and_may_be_repeated(corpus):
    loader = make_data(corpus).train_dataloader()
    first = ids_of_epoch(loader, 0)
    assert len(first) == len(loader) > 3
    assert sorted(id for ids in first for id in ids) == [f"u{i:03d}" for i in range(40) if i % 5 < 2]
    assert ids_of_epoch(loader, 0) == first
    assert ids_of_epoch(loader, 1) != first


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_after_the_batches_that_were_delivered_not_those_read_ahead(corpus, workers):
    data = make_data(corpus, num_workers=workers)
    whole = ids_of_epoch(data.train_dataloader(), 3)
    interrupted = data.train_dataloader()
    interrupted.sampler.set_epoch(3)
    batches = iter(interrupted)
    before = [next(batches).ids for _ in range(2)]
    state = interrupted.state_dict()
    del batches

    resumed = data.train_dataloader()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert before + ids_of_epoch(resumed, 3) == whole
    assert resumed.state_dict() == {**state, "delivered": len(whole)}
    assert ids_of_epoch(resumed, 4) == ids_of_epoch(data.train_dataloader(), 4)


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("frames")]


@pytest.mark.parametrize("workers", [1, 3])
def test_reading_ahead_changes_neither_batches_nor_their_order(corpus, workers):
    alone, ahead = (list(make_data(corpus, num_workers=n).train_dataloader()) for n in (0, workers))
    assert [batch.ids for batch in ahead] == [batch.ids for batch in alone]
    assert all(torch.equal(a.features, b.features) for a, b in zip(ahead, alone, strict=True))
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(ahead, alone, strict=True))
    assert not reading_threads()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_is_read_ahead_than_there_are_threads_and_room_is_made_by_the_consumer(corpus, monkeypatch, workers):
    loader = make_data(corpus, num_workers=workers).train_dataloader()
    read, made_by = [], set()
    fetch, empty = loader.dataset.fetch, loader.dataset.empty
    monkeypatch.setattr(
        loader.dataset, "fetch", lambda *a: (read.append(threading.current_thread().name), fetch(*a))[1]
    )
    monkeypatch.setattr(
        loader.dataset, "empty", lambda *a: (made_by.add(threading.current_thread().name), empty(*a))[1]
    )
    for delivered, _ in enumerate(loader, start=1):
        time.sleep(0.05)  # all that would be read is
        assert len(read) == min(delivered + workers, len(loader))
    assert made_by == {threading.current_thread().name}
    assert all(name.startswith("frames") for name in read)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_wrong_in_a_batch_is_raised_in_its_place(corpus, monkeypatch, workers):
    loader = make_data(corpus, num_workers=workers).train_dataloader()
    whole = ids_of_epoch(loader, 0)
    fetch, calls = loader.dataset.fetch, iter(range(100))

    def failing(places, room):
        if next(calls) == 2:
            raise UserError("the disk is on fire")
        return fetch(places, room)

    monkeypatch.setattr(loader.dataset, "fetch", failing)
    batches = iter(loader)
    assert [next(batches).ids, next(batches).ids] == whole[:2]
    with pytest.raises(UserError, match="the disk is on fire"):
        next(batches)
    assert loader.state_dict()["delivered"] == 2
    assert not reading_threads()


@pytest.mark.parametrize("end", ["close", "forget", "interrupt"])
def test_an_epoch_that_is_broken_off_leaves_no_thread_and_reads_no_more(corpus, monkeypatch, end):
    loader = make_data(corpus, num_workers=2, max_frames=10).train_dataloader()
    fetch, read = loader.dataset.fetch, []

    def slow(places, room):
        read.append(places)
        time.sleep(0.1)
        return fetch(places, room)

    monkeypatch.setattr(loader.dataset, "fetch", slow)
    assert len(loader) > 10
    batches = iter(loader)
    next(batches)
    assert len(reading_threads()) == 2
    if end == "close":
        batches.close()
    elif end == "forget":
        del batches
    else:
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):  # while it waits for a thread
            list(batches)
        signal.signal(signal.SIGALRM, before)
    assert not reading_threads()
    assert len(read) <= 5
    assert len(list(loader)) == len(loader)


def test_a_state_of_another_epoch_skips_nothing(corpus):
    loader = make_data(corpus).train_dataloader()
    whole = ids_of_epoch(loader, 1)
    loader.load_state_dict(loader.state_dict() | {"epoch": 0})
    assert ids_of_epoch(loader, 1) == whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, "seed 0, but this run has 1"),
        ({"max_frames": 50}, "max_frames 40, but this run has 50"),
        ({"max_utterances": 2}, "max_utterances None, but this run has 2"),
        ({"train_split": "probe"}, r"utterances \w+, but this run has \w+"),
    ],
)
def test_a_checkpoint_of_another_plan_is_refused(corpus, settings, message):
    state = make_data(corpus).train_dataloader().state_dict()
    with pytest.raises(UserError, match=message):
        make_data(corpus, **settings).train_dataloader().load_state_dict(state)


def test_a_checkpoint_of_another_number_of_processes_is_refused(corpus, monkeypatch):
    loader = make_data(corpus).train_dataloader()
    state = loader.state_dict()
    monkeypatch.setattr(loader_module, "_world", lambda: (1, 4))
    with pytest.raises(UserError, match="world_size 1, but this run has 4; resume with the same world_size"):
        loader.load_state_dict(state)


def test_processes_share_the_utterances_out_among_them(corpus, monkeypatch):
    data = make_data(corpus)
    shares = []
    loader = data.train_dataloader()  # made before the processes know of each other, as Lightning may do
    for rank in range(3):
        monkeypatch.setattr(loader_module, "_world", lambda rank=rank: (rank, 3))
        shares.append(ids_of_epoch(loader, 0))
    assert len({len(share) for share in shares}) == 1
    everyone = sorted(id for share in shares for ids in share for id in ids)
    assert everyone == [f"u{i:03d}" for i in range(40) if i % 5 < 2]


class Recorder(LightningModule):
    """Remembers the ids of every training step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps: list[tuple[int, list[str]]] = []

    def training_step(self, batch, batch_idx):
        self.steps.append((self.current_epoch, batch.ids))
        return self.weight * batch.features.float().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def predict_step(self, batch, batch_idx):
        return batch.ids

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(folder, **settings) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        # One core and data in memory: more workers would be slower.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*is not a directory|.*exists and is not empty.*")
        yield


@pytest.mark.parametrize(("workers", "stop"), [(0, 1), (0, 8), (2, 8), (0, "epoch end")])
def test_a_training_that_stops_and_resumes_sees_what_an_uninterrupted_one_sees(corpus, tmp_path, workers, stop):
    data = make_data(corpus, num_workers=workers)
    per_epoch = len(data.train_dataloader())
    assert per_epoch == 6  # so 1 and 8 stop in the middle of an epoch
    stop = per_epoch if stop == "epoch end" else stop

    whole = Recorder()
    make_trainer(tmp_path, max_epochs=3, enable_checkpointing=False).fit(whole, datamodule=data)

    first = Recorder()
    saver = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=stop, save_top_k=-1)
    data = make_data(corpus, num_workers=workers)
    make_trainer(tmp_path, max_epochs=3, max_steps=stop, callbacks=[saver]).fit(first, datamodule=data)

    second = Recorder()
    data = make_data(corpus, num_workers=workers)
    make_trainer(tmp_path, max_epochs=3, enable_checkpointing=False).fit(
        second, datamodule=data, ckpt_path=saver.best_model_path, weights_only=True
    )
    assert first.steps == whole.steps[:stop]
    assert first.steps + second.steps == whole.steps
    assert len(whole.steps) == 3 * per_epoch
    torch.testing.assert_close(second.weight, whole.weight)


def test_resuming_a_checkpoint_saved_after_validation_starts_the_next_epoch(corpus, tmp_path):
    data = make_data(corpus)
    whole = Recorder()
    saver = ModelCheckpoint(tmp_path / "checkpoints", save_top_k=-1, filename="{epoch}")
    make_trainer(tmp_path, max_epochs=3, callbacks=[saver]).fit(whole, datamodule=data)
    second = Recorder()
    make_trainer(tmp_path, max_epochs=3, enable_checkpointing=False).fit(
        second,
        datamodule=make_data(corpus),
        ckpt_path=tmp_path / "checkpoints/epoch=0.ckpt",
        weights_only=True,
    )
    assert second.steps == [step for step in whole.steps if step[0] > 0]


def test_prediction_yields_the_test_split_in_the_order_of_the_store(corpus, tmp_path):
    data = make_data(corpus)
    predicted = make_trainer(tmp_path).predict(Recorder(), datamodule=data)
    order = [id for ids in predicted for id in ids]
    stored = [id for id in data._features.ids if int(id[1:]) % 5 == 4]
    assert order == stored


def test_lengths_are_what_the_plan_is_made_of(corpus):
    data = make_data(corpus)
    dataset = data.train_dataloader().dataset
    batch = dataset[list(range(len(dataset)))]
    assert np.array_equal(batch.segments.lengths.numpy(), dataset.lengths)


def test_threads_read_ahead_in_the_inference_mode_of_a_test(corpus):
    plain = [batch.features for batch in make_data(corpus).test_dataloader()]
    with torch.inference_mode():  # as Trainer.test runs; what is made in it cannot be written to outside
        ahead = [batch.features for batch in make_data(corpus, num_workers=2).test_dataloader()]
    assert len(plain) > 2
    assert all(torch.equal(one, other) for one, other in zip(plain, ahead, strict=True))
