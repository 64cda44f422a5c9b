"""The data of every training: frame features of the store, with letters and labels of the manifest."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from disentangle_lightning.corpus.manifest import SPLITS, TRAINING_SPLITS, Utterance, audio_hash, read_manifest
from disentangle_lightning.corpus.prepare import choose_alphabet
from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.dataset import FrameDataset
from disentangle_lightning.features.examples import Examples
from disentangle_lightning.features.job import load_encoder
from disentangle_lightning.features.loader import FrameLoader, PlanSampler
from disentangle_lightning.features.online import OnlineFeatures
from disentangle_lightning.features.residency import check_residency, choose_residency
from disentangle_lightning.features.sources import FrameSource, ResidentFrames, StoredFrames
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.features.targets import CTC_TARGET, class_lists, hidden_classes

log = logging.getLogger(__name__)


class FrameFeatureDataModule(LightningDataModule):
    """Packed batches of frame features: shuffled from the training split, in order from `dev` and `test`.

    Everything is read and checked when it is made, so that a model can be sized by its attributes.

    Args:
        manifest: the JSONL manifest, with splits assigned.
        store: the feature store that `encode` made of it; None where there is an `encoder` instead.
        labels: the labels to put on each batch; `speaker` is one like any other.
        hidden_labels: further labels, for a stage that hides them: unlike those above, other splits may have classes of
            them that training does not have, which then count as missing.
        max_frames: the most frames of a batch; a longer utterance goes alone.
        max_utterances: the most utterances of a batch; None means any number.
        train_split: `train` for the stages, `probe` for the probes.
        layers: the numbers of the layers to read, from 1; None means all there are.
        num_workers: threads that read ahead, a batch each; 0 is best where features fit in memory.
        seed: decides the order of training.
        alphabet: the letters of CTC; None takes the English ones if they cover the training transcriptions,
            else the characters that occur there.
        verify: compare the store's checksums, which reads every byte of it once.
        residency: where the store's features are kept: `disk`, `host` (in memory), `device` (on the accelerator, where
            batches are then made without a copy), or `auto`: the fastest of them in which they fit.
        encoder: in place of `store`, an encoder as for `encode`: it runs whenever a batch is made, and nothing is
            stored. Much slower over several epochs; for corpora whose features no disk can hold.
        revision: of that encoder.
        precision: of that encoder.
        window_seconds: of that encoder.

    Attributes:
        num_layers, feature_dim: the size of a frame: [num_layers, feature_dim].
        alphabet: the letters of CTC.
        label_names: {label: its classes over `train` and `probe`, sorted}.
        label_counts: {label: utterances of each of its classes in the training split}.
        feature_header: the store's header, with `layers` narrowed to those that are read; without a store, what it
            would be.
        skipped: how many utterances of the manifest could not be encoded.

    Raises:
        UserError: manifest and store do not belong together, a split has no utterances, a label cannot be learnt
            from its training split, or an argument does not fit.
    """

    def __init__(
        self,
        manifest: str,
        store: str | None,
        labels: list[str],
        hidden_labels: list[str] = [],  # noqa: B006  # never changed
        max_frames: int = 20_000,
        max_utterances: int | None = None,
        train_split: str = "train",
        layers: list[int] | None = None,
        num_workers: int = 0,
        seed: int = 0,
        alphabet: str | None = None,
        verify: bool = True,
        residency: str = "auto",
        encoder: str | None = None,
        revision: str | None = None,
        precision: str = "fp32",
        window_seconds: float | None = None,
    ) -> None:
        super().__init__()
        if train_split not in TRAINING_SPLITS:
            raise UserError(f"train_split is '{train_split}'; expected one of {', '.join(TRAINING_SPLITS)}")
        if max_frames < 1 or (max_utterances is not None and max_utterances < 1):
            raise UserError(f"max_frames is {max_frames} and max_utterances {max_utterances}; both must be positive")
        if num_workers < 0:
            raise UserError(f"num_workers is {num_workers}; it must be 0 or more")
        check_residency(residency)
        if (store is None) == (encoder is None):
            raise UserError("give one of store (features that encode made) and encoder (nothing is stored), not both")
        if encoder is None and (revision, precision, window_seconds) != (None, "fp32", None):
            raise UserError("revision, precision and window_seconds belong to encoder; leave them out with a store")
        if encoder is not None and residency != "auto":
            raise UserError(f"residency is '{residency}', but with encoder nothing is kept; leave it out")

        utterances = read_manifest(manifest)
        if store is not None:
            self._features: FeatureStore | OnlineFeatures = FeatureStore.open(store, verify)
            self._layers = self._features.layers if layers is None else list(layers)
            self._features.places(self._layers)
            _check_hash(utterances, Path(manifest), self._features)
            stored = _stored(utterances, self._features)
        elif encoder is not None:
            frozen = load_encoder(encoder, revision, precision, window_seconds)
            self._features = OnlineFeatures(utterances, Path(manifest), frozen, layers)
            self._layers = self._features.layers
            encodable = set(self._features.ids)
            stored = [u for u in utterances if u.id in encodable]
        _check_splits(stored, train_split, manifest)

        self.num_layers: int = len(self._layers)
        self.feature_dim: int = self._features.dim
        self.alphabet: str = choose_alphabet(stored) if alphabet is None else alphabet
        self.label_names: dict[str, list[str]] = hidden_classes(stored, hidden_labels, train_split)
        self.label_names |= class_lists(stored, labels, train_split)
        self.feature_header: dict[str, Any] = self._features.header | {"layers": self._layers}
        self.skipped: int = len(utterances) - len(stored)
        if self.skipped:
            log.info("%d of %d utterances are left out: they cannot be encoded", self.skipped, len(utterances))

        self._examples = self._make_examples(stored, dict.fromkeys((train_split, "dev", "test", "probe")))
        self._read_splits = dict.fromkeys((train_split, "dev", "test"))
        self._source: FrameSource | None = None
        self._residency = residency
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
        labels = self._examples[self._train_split].labels
        return {
            name: np.bincount(labels[name] + 1, minlength=len(classes) + 1)[1:].tolist()
            for name, classes in self.label_names.items()
        }

    def check_targets(self, targets: Sequence[str], splits: Sequence[str] | None = None) -> None:
        """Refuse what no utterance of a split has, before anything is trained on it.

        Args:
            targets: labels of this data, and `ctc` for transcription.
            splits: where they are needed; None means in every split that is read.

        Raises:
            UserError: naming the split and what it lacks.
        """
        for split in self._read_splits if splits is None else splits:
            for target in targets:
                if not self._examples[split].have(target):
                    what = "a transcription" if target == CTC_TARGET else f"label '{target}'"
                    raise UserError(f"no utterance of split '{split}' has {what}, which is needed there")

    def train_dataloader(self) -> FrameLoader:
        return self._loader(self._train_split, shuffle=True)

    def val_dataloader(self) -> FrameLoader:
        return self._loader("dev", shuffle=False)

    def test_dataloader(self) -> FrameLoader:
        return self._loader("test", shuffle=False)

    def predict_dataloader(self) -> FrameLoader:
        return self._loader("test", shuffle=False)

    def add_probe_split(self) -> None:
        """Let `probe_dataloader` be asked for: no other training reads that split, nor keeps its features in memory.

        Raises:
            UserError: nothing is left out of training for probes.
        """
        if not len(self._examples["probe"]):
            raise UserError("the manifest has no utterances in split 'probe', which must be left out of training")
        if self._train_split == "probe":
            raise UserError("train_split is 'probe', which must be left out of training; it is to be 'train'")
        if "probe" not in self._read_splits:
            self._read_splits["probe"] = None
            self._source = None

    def probe_dataloader(self) -> FrameLoader:
        """The split `probe` in order, for a reader of a stage's latents."""
        return self._loader("probe", shuffle=False)

    def transfer_batch_to_device(self, batch: FrameBatch, device: torch.device, dataloader_idx: int) -> FrameBatch:
        return batch.to(device, non_blocking=True)

    def _loader(self, split: str, shuffle: bool) -> FrameLoader:
        dataset = FrameDataset(self._examples[split], self._features.ids, self._frames())
        sampler = PlanSampler(dataset.lengths, self._max_frames, self._max_utterances, shuffle, self._seed)
        pinned = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return FrameLoader(dataset, sampler, self._num_workers, pinned)

    def _frames(self) -> FrameSource:
        """One source for every split; chosen late, when it is known where the trainer computes and with how many."""
        if self._source is None:
            device, processes = torch.device("cpu"), 1
            if self.trainer is not None:
                device, processes = self.trainer.strategy.root_device, self.trainer.num_devices
            if isinstance(self._features, OnlineFeatures):
                self._source = self._features.to(device)
            else:
                self._source = self._stored_frames(self._features, device, processes)
        return self._source

    def _stored_frames(self, store: FeatureStore, device: torch.device, processes: int) -> FrameSource:
        indices = np.concatenate([self._examples[split].indices for split in self._read_splits])
        size = int(store.lengths[indices].sum()) * store.frame_bytes(self._layers)
        place, words = choose_residency(self._residency, size, device, processes)
        log.info(words)
        pinned = device.type == "cuda"
        if place == "disk":
            return StoredFrames(store, self._layers, pinned)
        if place == "host":
            return ResidentFrames(store, self._layers, indices.tolist(), pinned=pinned)
        return ResidentFrames(store, self._layers, indices.tolist(), device)

    def _make_examples(self, utterances: Sequence[Utterance], splits: Iterable[str]) -> dict[str, Examples]:
        """The examples of each split, in the order in which their features lie."""
        index = {id: i for i, id in enumerate(self._features.ids)}
        tokenizer = CTCTokenizer(self.alphabet)
        examples = {}
        for split in splits:
            chosen = sorted((u for u in utterances if u.split == split), key=lambda u: index[u.id])
            indices = [index[u.id] for u in chosen]
            examples[split] = Examples(chosen, indices, self._features.lengths[indices], tokenizer, self.label_names)
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
