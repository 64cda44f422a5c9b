"""The data of every training: frame features of the store, with letters and labels of the manifest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule

from disentangle_lightning.corpus.manifest import SPLITS, Utterance, audio_hash, read_manifest
from disentangle_lightning.corpus.prepare import TRAINING_SPLITS, choose_alphabet
from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.dataset import (
    Example,
    FrameDataset,
    FrameSource,
    MappedFrames,
    ResidentFrames,
)
from disentangle_lightning.features.loader import FrameLoader, PlanSampler
from disentangle_lightning.features.residency import fits_in_memory
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.features.targets import class_lists

log = logging.getLogger(__name__)


class FrameFeatureDataModule(LightningDataModule):
    """Packed batches of frame features: shuffled from the training split, in order from `dev` and `test`.

    Everything is read and checked when it is made, so that a model can be sized by its attributes.

    Args:
        manifest: the JSONL manifest, with splits assigned.
        store: the feature store that `encode` made of it.
        labels: the labels to put on each batch; `speaker` is one like any other.
        max_frames: the most frames of a batch; a longer utterance goes alone.
        max_utterances: the most utterances of a batch; None means any number.
        train_split: `train` for the stages, `probe` for the probes.
        layers: the numbers of the layers to read, from 1; None means all that are stored.
        num_workers: processes that read ahead; 0 is best where features fit in memory.
        seed: decides the order of training.
        alphabet: the letters of CTC; None takes the English ones if they cover the training transcriptions,
            else the characters that occur there.
        verify: compare the store's checksums, which reads every byte of it once.

    Attributes:
        num_layers, feature_dim: the size of a frame: [num_layers, feature_dim].
        alphabet: the letters of CTC.
        label_names: {label: its classes over `train` and `probe`, sorted}.
        label_counts: {label: utterances of each of its classes in the training split}.
        feature_header: the store's header, with `layers` narrowed to those that are read.
        skipped: how many utterances of the manifest the store had to leave out.

    Raises:
        UserError: manifest and store do not belong together, a split has no utterances, or a label cannot be
            learnt from its training split.
    """

    def __init__(
        self,
        manifest: str,
        store: str,
        labels: list[str],
        max_frames: int = 20_000,
        max_utterances: int | None = None,
        train_split: str = "train",
        layers: list[int] | None = None,
        num_workers: int = 0,
        seed: int = 0,
        alphabet: str | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__()
        if train_split not in TRAINING_SPLITS:
            raise UserError(f"train_split is '{train_split}'; expected one of {', '.join(TRAINING_SPLITS)}")
        if max_frames < 1 or (max_utterances is not None and max_utterances < 1):
            raise UserError(f"max_frames is {max_frames} and max_utterances {max_utterances}; both must be positive")
        self._store = FeatureStore.open(store, verify)
        self._layers = self._store.layers if layers is None else list(layers)
        self._store.places(self._layers)
        utterances = read_manifest(manifest)
        _check_hash(utterances, Path(manifest), self._store)
        stored = _stored(utterances, self._store)
        _check_splits(stored, train_split, manifest)

        self.num_layers: int = len(self._layers)
        self.feature_dim: int = self._store.dim
        self.alphabet: str = choose_alphabet(stored) if alphabet is None else alphabet
        self.label_names: dict[str, list[str]] = class_lists(stored, labels, train_split)
        self.feature_header: dict[str, Any] = self._store.header | {"layers": self._layers}
        self.skipped: int = len(utterances) - len(stored)
        if self.skipped:
            log.info(
                "%d of %d utterances are not in the feature store: encoding skipped them",
                self.skipped,
                len(utterances),
            )

        self._examples = self._make_examples(stored, (train_split, "dev", "test"))
        self._source: FrameSource | None = None
        self._max_frames = max_frames
        self._max_utterances = max_utterances
        self._train_split = train_split
        self._num_workers = num_workers
        self._seed = seed

    @property
    def inputs(self) -> dict[str, Any]:
        """All that a model must know of its data, in plain types: what its checkpoint carries."""
        return {
            "num_layers": self.num_layers,
            "feature_dim": self.feature_dim,
            "alphabet": self.alphabet,
            "label_names": self.label_names,
            "feature_header": self.feature_header,
        }

    @property
    def label_counts(self) -> dict[str, list[int]]:
        examples = self._examples[self._train_split]
        return {
            name: np.bincount([e.labels[name] + 1 for e in examples], minlength=len(classes) + 1)[1:].tolist()
            for name, classes in self.label_names.items()
        }

    def train_dataloader(self) -> FrameLoader:
        return self._loader(self._train_split, shuffle=True)

    def val_dataloader(self) -> FrameLoader:
        return self._loader("dev", shuffle=False)

    def test_dataloader(self) -> FrameLoader:
        return self._loader("test", shuffle=False)

    def predict_dataloader(self) -> FrameLoader:
        return self._loader("test", shuffle=False)

    def transfer_batch_to_device(self, batch: FrameBatch, device: torch.device, dataloader_idx: int) -> FrameBatch:
        return batch.to(device, non_blocking=True)

    def _loader(self, split: str, shuffle: bool) -> FrameLoader:
        dataset = FrameDataset(self._examples[split], self._frames())
        sampler = PlanSampler(dataset.lengths, self._max_frames, self._max_utterances, shuffle, self._seed)
        return FrameLoader(
            dataset, sampler=sampler, num_workers=self._num_workers, pin_memory=torch.cuda.is_available()
        )

    def _frames(self) -> FrameSource:
        """One source for every split; chosen late, when it is known how many processes share the memory."""
        if self._source is None:
            indices = [example.index for examples in self._examples.values() for example in examples]
            size = int(self._store.lengths[indices].sum()) * self.num_layers * self.feature_dim
            size *= self._store.dtype.itemsize
            if fits_in_memory(size, dist.get_world_size() if dist.is_initialized() else 1):
                log.info("features are read into memory: %.1f GB", size / 1e9)
                self._source = ResidentFrames(self._store, self._layers, indices)
            else:
                log.info("features stay on disk, mapped: %.1f GB do not fit in memory", size / 1e9)
                self._source = MappedFrames(self._store, self._layers)
        return self._source

    def _make_examples(self, utterances: Sequence[Utterance], splits: Sequence[str]) -> dict[str, list[Example]]:
        """The examples of each split, in the order in which they lie in the store."""
        index = {id: i for i, id in enumerate(self._store.ids)}
        places = {name: {value: i for i, value in enumerate(values)} for name, values in self.label_names.items()}
        tokenizer = CTCTokenizer(self.alphabet)
        examples: dict[str, list[Example]] = {split: [] for split in splits}
        for u in sorted(utterances, key=lambda u: index[u.id]):
            if u.split not in examples:
                continue
            text = tokenizer.normalize(u.transcription or "") or None
            examples[u.split].append(
                Example(
                    id=u.id,
                    index=index[u.id],
                    frames=int(self._store.lengths[index[u.id]]),
                    targets=tokenizer.encode(text or ""),
                    transcription=text,
                    labels={name: places[name].get(u.label(name) or "", -1) for name in places},
                )
            )
        return examples


def _check_hash(utterances: Sequence[Utterance], manifest: Path, store: FeatureStore) -> None:
    digest = audio_hash(utterances, manifest.parent)
    if digest != store.header["manifest_sha256"]:
        raise UserError(
            f"feature store {store.path} was made of other audio than manifest {manifest} lists (hash "
            f"{store.header['manifest_sha256'][:12]}, not {digest[:12]}); name its own manifest, or delete "
            "the store and run encode again"
        )


def _stored(utterances: Sequence[Utterance], store: FeatureStore) -> list[Utterance]:
    """The utterances that have features. One that is neither stored nor known as skipped is an error."""
    stored = set(store.ids)
    missing = [u.id for u in utterances if u.id not in stored]
    lost = set(missing) - {skip.id for skip in store.skipped}
    if lost:
        raise UserError(
            f"{len(lost)} utterances of the manifest are not in feature store {store.path}, such as "
            f"'{min(lost)}'; run encode again"
        )
    return [u for u in utterances if u.id in stored]


def _check_splits(utterances: Sequence[Utterance], train_split: str, manifest: str) -> None:
    found = {u.split for u in utterances}
    if found == {None}:
        raise UserError(f"manifest {manifest} has no splits; assign {', '.join(SPLITS)} first")
    for split in (train_split, "dev", "test"):
        if split not in found:
            raise UserError(f"manifest {manifest} has no utterances in split '{split}'")
