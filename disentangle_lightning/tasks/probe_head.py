"""One target of a probe: its own parameters, loss and best epoch."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.text import WordErrorRate

from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.nn.ctc import ctc_losses
from disentangle_lightning.nn.layer_mixer import LayerMixer, Mixing
from disentangle_lightning.nn.layer_pooling import pool_layers
from disentangle_lightning.nn.pooling import AttentionPooling, QueryInit
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.stage1 import transcript_pairs

Head = Literal["linear", "mlp"]


class ProbeHead(nn.Module):
    """Reads one target from a representation; on hidden states it mixes the layers by itself.

    The parameters are drawn from a generator seeded by (seed, target) alone, so that a head starts, and ends, with
    the same weights whichever other targets are trained beside it.
    """

    classifier: nn.Module
    """Logits of each row of what `inputs_for` has for this head."""

    def __init__(self, target: str, seed: int, num_layers: int | None, mixer: Mixing, layer: int | None) -> None:
        super().__init__()
        self.target = target
        self._seed = zlib.crc32(f"{seed}/{target}".encode())
        with self._own_draws():
            self.mixer = None if num_layers is None else LayerMixer(num_layers, mixer, layer)
        self.best: dict[str, Tensor] = {}
        """The weights of the best dev epoch so far."""
        self.best_score = (float("-inf"), float("-inf"))

    def read_out(self, head: Head, dim: int, outputs: int) -> nn.Module:
        """The linear or MLP layer."""
        with self._own_draws():
            if head == "linear":
                return nn.Linear(dim, outputs)
            return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, outputs))

    @contextmanager
    def _own_draws(self) -> Iterator[None]:
        """Draw from this head's own seed, and leave the global generator as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            yield

    def losses(self, logits: Tensor, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        """The sum of the losses of the utterances that have this target, and how many have it: two scalars."""
        raise NotImplementedError

    def update(self, logits: Tensor, batch: FrameBatch) -> None:
        """Add a dev batch to the score."""
        raise NotImplementedError

    def score(self) -> tuple[float, float]:
        """Dev figures since the last call, larger is better: the metric, then minus the loss for ties."""
        raise NotImplementedError

    def keep_if_best(self) -> float:
        """End a dev epoch: keep the weights if they are the best so far; returns the metric."""
        score = self.score()
        if score > self.best_score:
            self.best_score = score
            self.best = {name: value.detach().clone() for name, value in self.state_dict().items()}
        return abs(score[0])

    def restore_best(self) -> None:
        """Go to the best dev epoch's weights."""
        if self.best:
            self.load_state_dict(self.best)


class CTCHead(ProbeHead):
    """Transcription: one layer per frame, the mean of CTC per letter as loss, dev WER as score."""

    def __init__(
        self,
        seed: int,
        dim: int,
        tokenizer: CTCTokenizer,
        head: Head,
        num_layers: int | None,
        mixer: Mixing,
        layer: int | None,
    ) -> None:
        super().__init__("ctc", seed, num_layers, mixer, layer)
        self.tokenizer = tokenizer
        self.classifier = self.read_out(head, dim, len(tokenizer))
        self.wer = WordErrorRate()
        self.dev_nats = MeanMetric()

    def losses(self, logits: Tensor, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        nats, feasible = ctc_losses(logits, batch.segments, batch.targets, batch.target_lengths)
        return (nats / batch.target_lengths.clamp(min=1)).sum(), feasible.sum()

    def update(self, logits: Tensor, batch: FrameBatch) -> None:
        pairs = transcript_pairs(batch, logits, self.tokenizer)
        if pairs:
            self.wer.update([p["hypothesis"] for p in pairs], [p["reference"] for p in pairs])
            nats, count = self.losses(logits, batch)
            self.dev_nats.update(nats / count.clamp(min=1), weight=count)

    def score(self) -> tuple[float, float]:
        score = -float(self.wer.compute()), -float(self.dev_nats.compute())
        self.wer.reset()
        self.dev_nats.reset()
        return score


class ClassHead(ProbeHead):
    """A label: attention pooling and one layer, cross-entropy as loss, dev accuracy as score."""

    def __init__(
        self,
        label: str,
        seed: int,
        dim: int,
        classes: int,
        head: Head,
        query_init: QueryInit,
        scaled_attention: bool,
        num_layers: int | None,
        mixer: Mixing,
        layer: int | None,
    ) -> None:
        super().__init__(label, seed, num_layers, mixer, layer)
        self.pool = AttentionPooling(dim, query_init, scaled_attention)
        self.classifier = self.read_out(head, dim, classes)
        self.accuracy = MulticlassAccuracy(classes, average="micro", ignore_index=-1)
        self.dev_nats = SumMetric()

    def losses(self, logits: Tensor, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        targets = batch.labels[self.target]
        nats = F.cross_entropy(logits.float(), targets, ignore_index=-1, reduction="sum")
        return nats, (targets >= 0).sum()

    def update(self, logits: Tensor, batch: FrameBatch) -> None:
        self.accuracy.update(logits, batch.labels[self.target])
        self.dev_nats.update(self.losses(logits, batch)[0])

    def score(self) -> tuple[float, float]:
        score = float(self.accuracy.compute()), -float(self.dev_nats.compute())
        self.accuracy.reset()
        self.dev_nats.reset()
        return score


def inputs_for(heads: Mapping[str, ProbeHead], representation: Tensor, segments: Segments) -> dict[str, Tensor]:
    """What each head reads, for all of them in one pass: utterances pooled by its own attention, or frames.

    Args:
        heads: by target, all with the same mode of mixing.
        representation: [N, layers, D] hidden states, or [N, d] latents.
        segments: which frame is whose.

    Returns:
        {target: [B, D] for a label, [N, D] for transcription}.
    """
    mixers = {name: head.mixer for name, head in heads.items() if head.mixer is not None}
    layer = next((mixer.layer for mixer in mixers.values()), None)
    if mixers and layer is None:
        features, weights = representation, {name: mixer.weights for name, mixer in mixers.items()}
    else:  # nothing to mix: latents, or the one layer
        features = representation[:, None] if layer is None else representation[:, layer, None]
        weights = dict.fromkeys(heads, torch.ones(1, device=features.device))
    labels = {name: head for name, head in heads.items() if isinstance(head, ClassHead)}
    of_frames = next((name for name in heads if name not in labels), None)
    pooled, mixed = pool_layers(
        features,
        _stack([weights[name] for name in labels], features.shape[1], features.device),
        _stack([head.pool.query * head.pool.scale for head in labels.values()], features.shape[2], features.device),
        segments,
        None if of_frames is None else weights[of_frames],
    )
    # A copy each: bits also depend on how a matrix lies in memory, and that is another place for each of the heads.
    inputs = {
        name: x.clone(memory_format=torch.contiguous_format) for name, x in zip(labels, pooled.unbind(1), strict=True)
    }
    return inputs if of_frames is None or mixed is None else inputs | {of_frames: mixed}


def _stack(rows: list[Tensor], size: int, device: torch.device) -> Tensor:
    """[rows, size], also where there are none."""
    return torch.stack(rows) if rows else torch.zeros(0, size, device=device)
