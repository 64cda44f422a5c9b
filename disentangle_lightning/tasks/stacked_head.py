"""How a `StackedVIB` reads one task from several streams of latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.text import WordErrorRate

from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.nn.ctc import ctc_losses
from disentangle_lightning.nn.pooling import AttentionPooling, QueryInit
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.metrics import classification_figures, transcription_figures
from disentangle_lightning.tasks.stage1 import transcribe, transcript_pairs


class StreamHead(nn.Module):
    """Reads streams, each [N, d_i], by their frames.

    Attributes:
        task: a label, or `ctc`.
        answers: of the test batches so far, what `figures` is made of.
    """

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task
        self.answers: list[list[Any]] = []

    def forward(self, streams: Sequence[Tensor], segments: Segments) -> Tensor:
        """Logits, [B, classes] of a label or [N, V] of transcription."""
        raise NotImplementedError

    def nats(self, batch: FrameBatch, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood of each utterance, and which utterances count: [B], [B] bool."""
        raise NotImplementedError

    def paper_weights(self, batch: FrameBatch) -> Tensor:
        """[B]: what each utterance's nats are divided by in the paper's units; see `VIBStage`."""
        return torch.ones_like(batch.segments.lengths)

    def score(self, batch: FrameBatch, logits: Tensor) -> None:
        """Add a dev batch to `dev_error`."""
        raise NotImplementedError

    def dev_error(self) -> float:
        """The share of utterances, or the word error rate, since `forget_dev`."""
        raise NotImplementedError

    def forget_dev(self) -> None:
        """Begin a dev epoch."""
        raise NotImplementedError

    def answer(self, batch: FrameBatch, logits: Tensor) -> None:
        """Add a test batch to `answers`."""
        raise NotImplementedError

    def answers_to(self, batch: FrameBatch, logits: Tensor) -> list[str]:
        """The class or the transcript of each utterance."""
        raise NotImplementedError

    def figures(self, name: str, answers: list[Any], counts: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """`NAME.accuracy` and its kin, or `NAME.wer` and `NAME.cer`.

        Args:
            answers: those of all processes.
            counts: {label: utterances of each of its classes in the training split}.
        """
        raise NotImplementedError


class ClassesOfStreams(StreamHead):
    """A label: each stream pooled by an attention of its own, one linear layer of all (as Stage 2's classifier)."""

    def __init__(
        self, label: str, dims: Sequence[int], classes: list[str], query_init: QueryInit, scaled_attention: bool
    ) -> None:
        super().__init__(label)
        self.classes = classes
        self.pools = nn.ModuleList(AttentionPooling(dim, query_init, scaled_attention) for dim in dims)
        self.classifier = nn.Linear(sum(dims), len(classes))
        self.dev_accuracy = MulticlassAccuracy(len(classes), average="micro", ignore_index=-1)

    def forward(self, streams: Sequence[Tensor], segments: Segments) -> Tensor:
        pooled = [pool(stream, segments)[0] for pool, stream in zip(self.pools, streams, strict=True)]
        logits: Tensor = self.classifier(torch.cat(pooled, dim=-1))
        return logits

    def nats(self, batch: FrameBatch, logits: Tensor) -> tuple[Tensor, Tensor]:
        targets = batch.labels[self.task]
        return F.cross_entropy(logits.float(), targets, ignore_index=-1, reduction="none"), targets >= 0

    def score(self, batch: FrameBatch, logits: Tensor) -> None:
        self.dev_accuracy.update(logits, batch.labels[self.task])

    def dev_error(self) -> float:
        return 1.0 - float(self.dev_accuracy.compute())

    def forget_dev(self) -> None:
        self.dev_accuracy.reset()

    def answer(self, batch: FrameBatch, logits: Tensor) -> None:
        pairs = zip(batch.labels[self.task].tolist(), logits.argmax(-1).tolist(), strict=True)
        self.answers.append([pair for pair in pairs if pair[0] >= 0])

    def answers_to(self, batch: FrameBatch, logits: Tensor) -> list[str]:
        return [self.classes[i] for i in logits.argmax(-1).tolist()]

    def figures(self, name: str, answers: list[Any], counts: Mapping[str, Sequence[int]]) -> dict[str, float]:
        return classification_figures(name, [t for t, _ in answers], [p for _, p in answers], counts[self.task])


class LettersOfStreams(StreamHead):
    """Transcription: one linear CTC layer of all streams of a frame (as Stage 1's, which has one stream)."""

    def __init__(self, dims: Sequence[int], alphabet: str) -> None:
        super().__init__(CTC_TARGET)
        self.tokenizer = CTCTokenizer(alphabet)
        self.ctc_head = nn.Linear(sum(dims), len(self.tokenizer))
        self.dev_wer = WordErrorRate()

    def forward(self, streams: Sequence[Tensor], segments: Segments) -> Tensor:
        logits: Tensor = self.ctc_head(torch.cat(list(streams), dim=-1))
        return logits

    def nats(self, batch: FrameBatch, logits: Tensor) -> tuple[Tensor, Tensor]:
        return ctc_losses(logits, batch.segments, batch.targets, batch.target_lengths)

    def paper_weights(self, batch: FrameBatch) -> Tensor:
        return batch.target_lengths

    def score(self, batch: FrameBatch, logits: Tensor) -> None:
        if pairs := transcript_pairs(batch, logits, self.tokenizer):
            self.dev_wer.update([p["hypothesis"] for p in pairs], [p["reference"] for p in pairs])

    def dev_error(self) -> float:
        return float(self.dev_wer.compute())

    def forget_dev(self) -> None:
        self.dev_wer.reset()

    def answer(self, batch: FrameBatch, logits: Tensor) -> None:
        self.answers.append(transcript_pairs(batch, logits, self.tokenizer))

    def answers_to(self, batch: FrameBatch, logits: Tensor) -> list[str]:
        return transcribe(batch, logits, self.tokenizer)

    def figures(self, name: str, answers: list[Any], counts: Mapping[str, Sequence[int]]) -> dict[str, float]:
        return transcription_figures(name, [a["reference"] for a in answers], [a["hypothesis"] for a in answers])
