"""The loss that both stages minimise, and the book-keeping of its two terms."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torchmetrics import Metric, MetricCollection, SumMetric

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.nn.beta import BetaSchedule, beta_at
from disentangle_lightning.nn.bottleneck import Posterior, Variance
from disentangle_lightning.nn.distance_control import DistanceControl
from disentangle_lightning.nn.latent import LatentEncoder
from disentangle_lightning.nn.layer_mixer import Mixing
from disentangle_lightning.nn.rate_control import RateControl
from disentangle_lightning.tasks.base import LEAST_WEIGHT, Inputs, TaskModule, mean_over_ranks
from disentangle_lightning.tasks.metrics import bits_per_second, nats_per_frame, rate_figures
from disentangle_lightning.tasks.no_bottleneck import control_errors

Units = Literal["nats", "paper"]
Totals = Literal["task", "task_weight", "kl", "frames"]
ABOVE = 1.05
"""Times the chosen rate: from here on, a rate counts as too high; on dev it is a few per cent off that in training."""
WORTH = 1e4
"""Nats per frame that an error of 1 above the allowed one costs: a tenth of a point costs more than codes differ."""
TOTALS: tuple[Totals, ...] = ("task", "task_weight", "kl", "frames")


class VectorSum(Metric):
    """The sum of vectors over batches and processes; SumMetric would add up their elements too."""

    total: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(size), dist_reduce_fx="sum")

    def update(self, vector: Tensor) -> None:
        self.total += vector

    def compute(self) -> Tensor:
        return self.total


class VIBStage(TaskModule):
    """loss = task + beta * KL, with the KL summed over dimensions and averaged over frames.

    `units` decides what the task term is averaged over:

    - "nats" (default): nats over all utterances of a batch, divided by its frames, as the KL is. Both terms are then
      nats per utterance up to one common factor, so one beta means the same for any clip length, alphabet and batch
      size, and in both stages: beta nats of the task's loss are worth one nat of code.
    - "paper": CTC per letter, averaged over utterances, or cross-entropy per utterance (arXiv 2410.03037).

    Args:
        inputs: what the data module says of its features, alphabet and labels.
        latent_dim: d.
        mixer, layer: see `LayerMixer`.
        variance, deterministic: see `VIBBottleneck`.
        dropout, context: see `LatentEncoder`.
        beta, schedule, beta_start: see `beta_at`; with the schedule "rate", beta is where a `RateControl` starts, with
            "within" what a `DistanceControl` expects.
        rate: for "rate", the rate to end at, in bits per second.
        distance: for "within", how much more than the control's the dev error may be: 0.01 is one word, or one
            utterance, of a hundred.
        control: for "within", the run directory of the same stage trained with `deterministic: true` (inside a
            checkpoint: its dev errors).
        units: see above.
        learning_rate, mixer_rate, weight_decay, warmup_fraction: see `TaskModule`.
    """

    monitor = "dev/objective"

    def __init__(
        self,
        inputs: dict[str, Any],
        latent_dim: int,
        mixer: Mixing,
        layer: int | None,
        variance: Variance,
        deterministic: bool,
        dropout: float,
        context: int,
        beta: float,
        schedule: BetaSchedule,
        beta_start: float,
        rate: float | None,
        distance: float | None,
        control: str | list[float] | None,
        units: Units,
        learning_rate: float,
        mixer_rate: float,
        weight_decay: float,
        warmup_fraction: float,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup_fraction, mixer_rate)
        self.inputs: Inputs = inputs  # type: ignore[assignment]
        self.beta = beta
        self.schedule = schedule
        self.beta_start = beta_start
        self.units = units
        self.latent_encoder = LatentEncoder(
            self.inputs["num_layers"],
            self.inputs["feature_dim"],
            latent_dim,
            mixer=mixer,
            layer=layer,
            variance=variance,
            deterministic=deterministic,
            dropout=dropout,
            context=context,
        )
        self.rate_control = self._rate_control(rate, deterministic)
        self.control_errors = control_errors(control) if isinstance(control, str) else control
        self.distance_control = self._distance_control(distance, deterministic)
        # Sums, so that dev figures are of the corpus whatever the batches, on any number of processes.
        self.dev_totals = MetricCollection({name: SumMetric() for name in TOTALS})
        self.kl_per_dimension = VectorSum(latent_dim)

    def _rate_control(self, rate: float | None, deterministic: bool) -> RateControl | None:
        if (self.schedule == "rate") != (rate is not None):
            raise UserError(
                f"schedule '{self.schedule}' with rate {rate}: 'rate' needs a rate, in bits per second, and the other "
                "schedules take none"
            )
        if rate is None:
            return None
        if not 0 < rate < math.inf or not 0 < self.beta < math.inf or deterministic:
            raise UserError(
                f"rate {rate} with beta {self.beta} and deterministic {str(deterministic).lower()}: a rate to end at "
                "must be above 0, so must the beta to start from, and it takes a bottleneck with noise"
            )
        return RateControl(nats_per_frame(rate, self.frame_rate), self.beta)

    def _distance_control(self, distance: float | None, deterministic: bool) -> DistanceControl | None:
        errors = self.control_errors
        if {self.schedule == "within"} != {distance is not None, errors is not None}:
            raise UserError(
                f"schedule '{self.schedule}' with distance {distance} and {'no' if errors is None else 'a'} control: "
                "'within' needs a distance, such as 0.01, and a control, the run_dir of the same stage trained with "
                "deterministic: true and schedule: fixed; the other schedules take neither"
            )
        if distance is None or errors is None:
            return None
        if not 0 <= distance < 1 or not 0 < self.beta < math.inf or deterministic:
            raise UserError(
                f"distance {distance} with beta {self.beta} and deterministic {str(deterministic).lower()}: a distance "
                "is from 0 to below 1, beta must be above 0, and it takes a bottleneck with noise"
            )
        return DistanceControl(errors, distance, self.beta)

    @abstractmethod
    def logits(self, batch: FrameBatch, z: Tensor) -> Tensor:
        """What the task's head says of latents [N, d]."""

    @abstractmethod
    def task_nats(self, batch: FrameBatch, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The task's negative log-likelihood of each utterance, and which utterances count: [B], [B] bool."""

    def penalty(self, batch: FrameBatch, posterior: Posterior) -> Tensor | None:
        """What else a training batch costs, in nats over its utterances; None for nothing."""
        return None

    @abstractmethod
    def score(self, batch: FrameBatch, logits: Tensor) -> None:
        """Update the task's own dev metric."""

    @abstractmethod
    def task_error(self) -> float:
        """The word error rate, or 1 - accuracy, on the dev batches so far; asked for before the epoch's end."""

    def paper_weights(self, batch: FrameBatch) -> Tensor:
        """[B]: what each utterance's nats are divided by in the paper's units."""
        return torch.ones_like(batch.segments.lengths)

    def terms(self, batch: FrameBatch, logits: Tensor, posterior: Posterior) -> dict[Totals, Tensor]:
        """The sums of which loss = task / task_weight + beta * kl / frames is made.

        Where no utterance counts, task_weight is 0 in the paper's units, and so is task.
        """
        nats, counted = self.task_nats(batch, logits)
        frames = torch.full((), float(batch.features.shape[0]), device=nats.device)  # made there, not copied there
        if self.units == "nats":
            task, weight = nats.sum(), frames
        else:
            task = (nats / self.paper_weights(batch).clamp(min=1)).sum()
            weight = counted.sum().float()
        return {"task": task, "task_weight": weight, "kl": posterior.kl().sum(), "frames": frames}

    def training_step(self, batch: FrameBatch, batch_idx: int) -> Tensor:
        control = self.rate_control or self.distance_control
        if control is None:
            beta: float | Tensor = beta_at(self.progress, self.beta, self.schedule, self.beta_start)
        else:
            beta = control.beta
        posterior = self.latent_encoder(batch.features, batch.segments)
        logits = self.logits(batch, self.latent_encoder.latent(posterior))
        terms = self.terms(batch, logits, posterior)
        # The denominators are those of the batches of all processes, or their gradients would be averaged as if each
        # process had as many frames; so are the logged figures.
        means = dict(zip(TOTALS, mean_over_ranks(torch.stack([terms[name] for name in TOTALS])), strict=True))
        task_weight, frames = means["task_weight"].clamp(min=LEAST_WEIGHT), means["frames"]
        task, kl = means["task"] / task_weight, means["kl"] / frames
        figures = {
            "train/loss": task + beta * kl,
            "train/task": task,
            "train/kl_nats_per_frame": kl,
            "train/rate_bits_per_second": bits_per_second(kl, self.frame_rate),
            "train/beta": beta,
        }
        if self.rate_control is not None:
            figures["train/aim_bits_per_second"] = bits_per_second(
                self.rate_control.aim(self.progress), self.frame_rate
            )
            self.rate_control.update(kl, self.progress, self.steps)
        if self.distance_control is not None:
            self.distance_control.update(self.progress, self.steps)
        loss: Tensor = terms["task"] / task_weight + beta * (terms["kl"] / frames)
        penalty = self.penalty(batch, posterior)
        if penalty is not None:
            loss = loss + penalty / task_weight
            figures["train/penalty"] = mean_over_ranks(penalty) / task_weight
        self.log_step(figures, batch)
        return loss

    def validation_step(self, batch: FrameBatch, batch_idx: int) -> None:
        if self.is_repeat(batch_idx):
            return
        posterior = self.latent_encoder(batch.features, batch.segments)
        # With its noise where the rate is to be as low as errors allow: at next to none, means still tell a class.
        latent = posterior.mean if self.distance_control is None else posterior.sample()
        logits = self.logits(batch, latent)
        for name, value in self.terms(batch, logits, posterior).items():
            self._total(name).update(value)
        self.score(batch, logits)

    def on_validation_epoch_end(self) -> None:
        totals = self.dev_totals.compute()
        self.dev_totals.reset()
        task, kl = totals["task"] / totals["task_weight"].clamp(min=1), totals["kl"] / totals["frames"]
        rate, error = bits_per_second(float(kl), self.frame_rate), self.task_error()
        if self.distance_control is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self.distance_control.see(error, self.progress)
            self.log("dev/allowed_error", self.distance_control.allowed(self.progress))
        self.log_dict(
            {
                "dev/error": error,
                "dev/objective": self._objective(task, kl, error),
                "dev/task": task,
                "dev/kl_nats_per_frame": kl,
                "dev/rate_bits_per_second": rate,
            }
        )

    def _objective(self, task: Tensor, kl: Tensor, error: float) -> Tensor:
        """What a dev epoch is chosen by, the smaller the better.

        Within a distance of a control, the least KL, where both the error and what is remembered of those before it
        are; where none is, the least error.
        """
        if self.distance_control is None:
            return task + self._price(kl)
        return kl + WORTH * self.distance_control.excess(error)

    def _price(self, kl: Tensor) -> Tensor:
        """What a dev epoch's KL costs it when the best is chosen.

        At the final beta, whatever the schedule: so a checkpoint from before the code was made cheap, which transcribes
        best and hides least, is not the one that is kept. Where a rate was chosen, a rate that is clearly above it
        costs its full KL, more than the task can gain from it.
        """
        if self.rate_control is None:
            return self.beta * kl
        return (kl - ABOVE * self.rate_control.target).clamp(min=0)

    def update_rate(self, posterior: Posterior, batch: FrameBatch) -> None:
        """Add a test batch to the figures of `rate_results`."""
        self.kl_per_dimension.update(posterior.kl().sum(0))
        self._total("frames").update(batch.features.shape[0])

    def rate_results(self, name: str) -> dict[str, float]:
        """`NAME.rate_bits_per_second` and its kin over the test batches; resets them."""
        per_dimension = self.kl_per_dimension.compute() / self._total("frames").compute()
        self.kl_per_dimension.reset()
        self.dev_totals.reset()
        return rate_figures(name, per_dimension.cpu().numpy().astype(np.float64), self.frame_rate)

    def _total(self, name: Totals) -> SumMetric:
        return cast(SumMetric, self.dev_totals[name])

    @property
    def frame_rate(self) -> float:
        """Frames per second of the features."""
        return float(self.inputs["feature_header"]["frame_rate"])

    def layer_weights(self) -> dict[str, list[float] | list[int]]:
        """The encoder's layer numbers and the weight the mixer gives each."""
        return {
            "layers": list(self.inputs["feature_header"]["layers"]),
            "weights": self.latent_encoder.mixer.weights.tolist(),
        }
