"""What a trained run is tested on: its own test speech, clean and spoilt, and the speech of other runs."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from disentangle_lightning.analysis.settings import TransferSettings
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.degradation import add_noise, babble, reverberate, room_response, white_noise
from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.dataset import FrameDataset
from disentangle_lightning.features.examples import Examples
from disentangle_lightning.features.loader import FrameLoader, PlanSampler
from disentangle_lightning.features.online import OnlineFeatures
from disentangle_lightning.tasks.given_stage1 import GivenStage1
from disentangle_lightning.tasks.stage_training import read_layers

CLEAN = "clean"

_BABBLE_VOICES = 6
_BABBLE_POOL = 60
_MAX_FRAMES = 5_000
"""Of a batch: its features are held in float32, all layers of them."""

Split = Literal["probe", "test"]
Alter = Callable[[str, Tensor, torch.Generator], Tensor]
"""(id, waveform [samples], generator of the noise) -> the waveform as it is heard, [samples]."""


@dataclass(frozen=True)
class Condition:
    """One kind of speech.

    Attributes:
        name: part of the names of its figures.
        heading: what it is, in words.
        label_names: {label: classes} of its batches.
        batches: those of a split, in order.
    """

    name: str
    heading: str
    label_names: dict[str, list[str]]
    batches: Callable[[Split], Iterable[FrameBatch]]


def conditions(run: TrainedRun, settings: TransferSettings) -> list[Condition]:
    """Clean speech first, then noise, rooms and other runs.

    Raises:
        UserError: a setting is bad, or another run has another encoder, or speech that this run was trained on.
    """
    if unknown := set(settings.noise) - {"white", "babble"}:
        raise UserError(f"field 'noise' names '{min(unknown)}'; expected white or babble")
    if settings.utterances < 1 or any(seconds <= 0 for seconds in settings.rt60):
        raise UserError("fields 'utterances' and 'rt60' must be above zero")
    own = _OwnSpeech(run, settings.utterances)
    found = [own.condition(CLEAN, "clean speech", None)]
    for kind in settings.noise:
        for snr in settings.snr:
            alter = functools.partial(_white if kind == "white" else own.babble, snr=snr)
            found.append(own.condition(f"{kind}_{snr:g}db", f"{kind} noise, {snr:g} dB", alter))
    for seconds in settings.rt60:
        alter = functools.partial(_room, rt60=seconds)
        found.append(own.condition(f"reverb_{round(1000 * seconds)}ms", f"room, RT60 {seconds:g} s", alter))
    found += [_other(run, Path(path)) for path in settings.others]
    names = [condition.name for condition in found]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"two kinds of speech would both be called '{repeated[0]}'; name each once, and runs differently"
        )
    return found


class _OwnSpeech:
    """A part of the run's own probe and test splits, encoded anew in every condition."""

    def __init__(self, run: TrainedRun, utterances: int) -> None:
        self.run = run
        data = run.data()
        self.label_names = data.label_names
        self.layers = [int(layer) for layer in data.feature_header["layers"]]
        self.alphabet = data.alphabet
        self.chosen = {split: _some(run, split, utterances) for split in ("probe", "test")}
        self.talkers = _some(run, "train", _BABBLE_POOL)

    def condition(self, name: str, heading: str, alter: Alter | None) -> Condition:
        return Condition(name, heading, self.label_names, functools.partial(self.batches, name, alter))

    def batches(self, name: str, alter: Alter | None, split: Split) -> Iterable[FrameBatch]:
        """As `FrameFeatureDataModule` makes them, with the noise of a clip the same whatever the order."""

        def heard(id: str, waveform: Tensor) -> Tensor:
            if alter is None:
                return waveform
            return alter(id, waveform, torch.Generator().manual_seed(zlib.crc32(f"{name}/{id}".encode())))

        utterances = self.chosen[split]
        features = OnlineFeatures(utterances, self.run.manifest, self.run.encoder, self.layers, heard)
        index = {id: i for i, id in enumerate(features.ids)}
        chosen = sorted((u for u in utterances if u.id in index), key=lambda u: index[u.id])
        places = [index[u.id] for u in chosen]
        tokenizer = CTCTokenizer(self.alphabet)
        examples = Examples(chosen, places, features.lengths[places], tokenizer, self.label_names)
        dataset = FrameDataset(examples, features.ids, features)
        return FrameLoader(dataset, PlanSampler(dataset.lengths, _MAX_FRAMES, shuffle=False))

    def babble(self, id: str, waveform: Tensor, generator: torch.Generator, snr: float) -> Tensor:
        """Six others talk at once: utterances of the split `train`, none of which is tested."""
        drawn = torch.randperm(len(self.talkers), generator=generator)[:_BABBLE_VOICES].tolist()
        voices = [_loaded(self.talkers[i].audio, self.talkers[i].start, self.talkers[i].duration) for i in drawn]
        return add_noise(waveform, babble(voices, len(waveform), generator), snr)


@functools.lru_cache(_BABBLE_POOL)
def _loaded(audio: Path, start: float, duration: float | None) -> Tensor:
    return load_utterance(Utterance("", audio, start, duration))


def _white(id: str, waveform: Tensor, generator: torch.Generator, snr: float) -> Tensor:
    return add_noise(waveform, white_noise(len(waveform), generator), snr)


def _room(id: str, waveform: Tensor, generator: torch.Generator, rt60: float) -> Tensor:
    return reverberate(waveform, room_response(rt60, generator))


def _some(run: TrainedRun, split: str, most: int) -> list[Utterance]:
    """Utterances of a split, drawn at random but always the same."""
    members = [u for u in run.utterances.values() if u.split == split]
    drawn = np.random.default_rng(0).permutation(len(members))[:most]
    return [members[i] for i in sorted(drawn.tolist())]


def _other(run: TrainedRun, path: Path) -> Condition:
    """The stored features of another run's probe and test splits."""
    other = TrainedRun(path)
    layers: Sequence[int] | None = read_layers(run.settings.stage1)
    for seed in run.seeds:
        given = GivenStage1.read(run.checkpoint(seed, "stage1"))
        given.check_features(other.header, layers)
        given.check_unheard(list(other.utterances.values()))
    data = other.data(layers=read_layers(run.settings.probe), alphabet=run.stage1(run.seeds[0]).tokenizer.alphabet)
    loaders = {"probe": data.probe_dataloader, "test": data.test_dataloader}
    return Condition(
        f"run_{other.path.name}", f"run {other.path.name}", data.label_names, lambda split: loaders[split]()
    )
