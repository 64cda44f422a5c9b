"""Stage 1: keep only what transcription needs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchmetrics.text import WordErrorRate

from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.nn.beta import BetaSchedule
from disentangle_lightning.nn.bottleneck import Variance
from disentangle_lightning.nn.ctc import ctc_losses, greedy_decode
from disentangle_lightning.nn.layer_mixer import Mixing
from disentangle_lightning.tasks.base import gather, init_arguments
from disentangle_lightning.tasks.metrics import transcription_figures
from disentangle_lightning.tasks.vib_stage import Units, VIBStage


class Stage1VIB(VIBStage):
    """z_textual: a bottleneck on the layer average, read by one linear CTC layer (arXiv 2410.03037, section 3).

    Selected on dev/objective. The test writes, into the run directory, summary.json (`stage1.wer`, `stage1.cer`,
    `stage1.rate_bits_per_second`, ...), transcripts.json and layer_weights.json.

    The defaults mend what the paper's recipe suffers from (`units`, `variance` and `schedule`);
    experiments/stage1/paper.yaml is the recipe to the letter.

    Args: see `VIBStage`.
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
        self.save_hyperparameters(hparams | {"control": self.control_errors})
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
