"""Stage 1: keep only what transcription needs."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torchmetrics.text import WordErrorRate

from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.loader import FrameLoader
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.nn.beta import BetaSchedule
from disentangle_lightning.nn.bottleneck import Posterior, Variance
from disentangle_lightning.nn.ctc import ctc_losses, greedy_decode
from disentangle_lightning.nn.discriminant import RunningDiscriminant, utterance_statistics
from disentangle_lightning.nn.layer_mixer import Mixing
from disentangle_lightning.tasks.base import gather, init_arguments, label_classes, sum_over_ranks
from disentangle_lightning.tasks.metrics import transcription_figures
from disentangle_lightning.tasks.vib_stage import Units, VIBStage

RISE = 0.6
"""The share of training over which hiding sets in: before words are read, there is nothing to hide them from."""


class Stage1VIB(VIBStage):
    """z_textual: a bottleneck on the layer average, read by one linear CTC layer (arXiv 2410.03037, section 3).

    What it is told to hide costs it, too: loss = task + beta * KL + hide_weight * log(1 + exposure), where exposure is
    what a linear reader of the means and deviations of z_textual over an utterance can tell of a label (see
    `RunningDiscriminant`), in nats per utterance as the task. Its logarithm, so that many nats, as in the beginning of
    a training on little speech, do not drown the words: then it is the relative decrease that counts. The weight rises
    from zero over the first `RISE` of training. Labels that it was not told of, and readers of another kind, are for
    probes and attackers to try.

    Selected on dev/objective. The test writes, into the run directory, summary.json (`stage1.wer`, `stage1.cer`,
    `stage1.rate_bits_per_second`, ...), transcripts.json and layer_weights.json.

    The defaults mend what the paper's recipe suffers from (`units`, `variance` and `schedule`);
    experiments/stage1/paper.yaml is the recipe to the letter.

    Args:
        hide: labels of which z_textual should tell nothing, such as [speaker]; the data need them, too, as
            `hidden_labels` or among `labels`.
        hide_weight: how many nats of the task's loss the first nat of exposure is worth.
        others: see `VIBStage`.

    Raises:
        UserError: a label to hide is unknown.
    """

    def __init__(
        self,
        inputs: dict[str, Any],
        latent_dim: int = 128,
        mixer: Mixing = "learned",
        layer: int | None = None,
        variance: Variance = "log_variance",
        deterministic: bool = False,
        dropout: float = 0.1,
        context: int = 0,
        beta: float = 0.02,
        schedule: BetaSchedule = "warmup",
        beta_start: float = 0.1,
        rate: float | None = None,
        distance: float | None = None,
        control: str | list[float] | None = None,
        units: Units = "nats",
        hide: list[str] = [],  # noqa: B006  # never changed
        hide_weight: float = 3.0,
        learning_rate: float = 1e-3,
        mixer_rate: float = 10.0,
        weight_decay: float = 0.005,
        warmup_fraction: float = 0.1,
    ) -> None:
        hparams = init_arguments(locals())
        super().__init__(
            inputs, latent_dim, mixer, layer, variance, deterministic, dropout, context, beta, schedule, beta_start,
            rate, distance, control, units, learning_rate, mixer_rate, weight_decay, warmup_fraction,
        )  # fmt: skip
        self.hide = hide
        self.hide_weight = hide_weight
        self.save_hyperparameters(hparams | {"control": self.control_errors})
        classes = [len(label_classes(self.inputs["label_names"], label)) for label in self.hide]
        self.discriminants = nn.ModuleList(RunningDiscriminant(count, 2 * latent_dim) for count in classes)
        self.tokenizer = CTCTokenizer(self.inputs["alphabet"])
        self.ctc_head = nn.Linear(latent_dim, len(self.tokenizer))
        self.dev_wer = WordErrorRate()
        self._transcripts: list[list[dict[str, str]]] = []
        self._infeasible = 0

    @property
    def targets(self) -> list[str]:
        return [CTC_TARGET]

    def logits(self, batch: FrameBatch, z: Tensor) -> Tensor:
        """Of each frame over blank, `|` and the alphabet, [N, V]."""
        logits: Tensor = self.ctc_head(z)
        return logits

    def task_nats(self, batch: FrameBatch, logits: Tensor) -> tuple[Tensor, Tensor]:
        return ctc_losses(logits, batch.segments, batch.targets, batch.target_lengths)

    def paper_weights(self, batch: FrameBatch) -> Tensor:
        return batch.target_lengths

    def penalty(self, batch: FrameBatch, posterior: Posterior) -> Tensor | None:
        """`hide_weight` times log(1 + exposure), summed over what is to be hidden and the utterances that have it.

        The reader is that of the batches of all processes.
        """
        if not self.hide:
            return None
        x = utterance_statistics(posterior.mean, batch.segments)
        exposed, utterances = x.new_zeros(()), len(cast(FrameLoader, self.trainer.train_dataloader).dataset)
        for label, discriminant in zip(self.hide, self.discriminants, strict=True):
            reader = cast(RunningDiscriminant, discriminant)
            labels = batch.labels[label]
            # Read before it is shown the batch, so that nobody is known by the very utterance that is asked about.
            exposed = exposed + (reader.exposure(x, utterances).log1p() * (labels >= 0)).sum()
            reader.update(sum_over_ranks(reader.batch_sums(x, labels)))
        return self.hide_weight * min(1.0, self.progress / RISE) * exposed

    def score(self, batch: FrameBatch, logits: Tensor) -> None:
        pairs = transcript_pairs(batch, logits, self.tokenizer)
        if pairs:
            self.dev_wer.update([p["hypothesis"] for p in pairs], [p["reference"] for p in pairs])

    def task_error(self) -> float:
        return float(self.dev_wer.compute())

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("dev/wer", self.dev_wer.compute(), prog_bar=True)
        self.dev_wer.reset()

    def test_step(self, batch: FrameBatch, batch_idx: int) -> None:
        if self.is_repeat(batch_idx):
            return
        posterior = self.latent_encoder(batch.features, batch.segments)
        self.update_rate(posterior, batch)
        logits = self.logits(batch, posterior.mean)
        self._transcripts.append(transcript_pairs(batch, logits, self.tokenizer))
        _, feasible = self.task_nats(batch, logits)
        self._infeasible += int(((batch.target_lengths > 0) & ~feasible).sum())

    def on_test_epoch_end(self) -> None:
        transcripts = gather(self._transcripts)
        figures = self.rate_results("stage1")
        if transcripts:  # none where a Stage 1 is tested on speech that nobody wrote down
            figures |= transcription_figures(
                "stage1", [t["reference"] for t in transcripts], [t["hypothesis"] for t in transcripts]
            )
            self.log_dict({"test/wer": figures["stage1.wer"], "test/cer": figures["stage1.cer"]})
        figures["stage1.infeasible"] = float(sum(gather([[self._infeasible]])))
        self.write_results(figures, transcripts=transcripts, layer_weights=self.layer_weights())
        self._transcripts, self._infeasible = [], 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["readers"] = [dict(discriminant.named_buffers()) for discriminant in self.discriminants]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        for discriminant, known in zip(self.discriminants, checkpoint.get("readers", []), strict=False):
            for name, buffer in discriminant.named_buffers():
                buffer.copy_(known[name])

    def predict_step(self, batch: FrameBatch, batch_idx: int) -> dict[str, Any]:
        z = self.latent_encoder(batch.features, batch.segments).mean
        return {
            "ids": batch.ids,
            "lengths": batch.segments.lengths,
            "frames": {"z_textual": z},
            "transcripts": transcribe(batch, self.logits(batch, z), self.tokenizer),
        }


def transcribe(batch: FrameBatch, logits: Tensor, tokenizer: CTCTokenizer) -> list[str]:
    """The greedy transcript of each utterance of a batch from CTC logits [N, V]."""
    return [tokenizer.decode(ids) for ids in greedy_decode(logits, batch.segments)]


def transcript_pairs(batch: FrameBatch, logits: Tensor, tokenizer: CTCTokenizer) -> list[dict[str, str]]:
    """Id, reference and greedy hypothesis of the utterances of a batch that have a transcription."""
    hypotheses = transcribe(batch, logits, tokenizer)
    return [
        {"id": id, "reference": tokenizer.normalize(reference), "hypothesis": hypothesis}
        for id, reference, hypothesis in zip(batch.ids, batch.transcriptions, hypotheses, strict=True)
        if reference is not None
    ]
