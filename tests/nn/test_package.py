"""What is true of the package as a whole."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from disentangle_lightning.nn.bottleneck import Variance
from disentangle_lightning.nn.ctc import ctc_losses, greedy_decode
from disentangle_lightning.nn.latent import LatentEncoder
from disentangle_lightning.nn.pooling import AttentionPooling
from disentangle_lightning.nn.segments import Segments


@pytest.mark.parametrize("name", ["layer_mixer", "latent", "beta"])
def test_docstring_examples_are_true(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"disentangle_lightning.nn.{name}"))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("variance", ["softplus", "log_variance"])
def test_training_never_waits_for_the_device(variance: Variance, monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch's own CTC reads the lengths; what stands around it must not.
    def without_lengths(log_probabilities: Tensor, *_: Tensor, **__: object) -> Tensor:
        return log_probabilities.sum((0, 2))

    monkeypatch.setattr(F, "ctc_loss", without_lengths)
    # A fake tensor has a shape and no values: .item(), .tolist() and boolean indexing fail on it.
    with FakeTensorMode():
        encoder = LatentEncoder(3, 4, 2, variance=variance)
        pooling, classifier = AttentionPooling(2), nn.Linear(2, 5)
        features = torch.empty(7, 3, 4, dtype=torch.float16)
        segments = Segments.from_lengths(torch.empty(2, dtype=torch.int64), total=7, max_length=4)
        targets, target_lengths = torch.empty(3, dtype=torch.int64), torch.empty(2, dtype=torch.int64)

        posterior = encoder(features)
        latent = encoder.latent(posterior)
        pooled, _ = pooling(latent, segments)
        losses, _ = ctc_losses(latent, segments, targets, target_lengths)
        (classifier(pooled).sum() + losses.sum() + posterior.kl().sum()).backward()
        assert encoder.mixer.theta.grad is not None

        with pytest.raises(DynamicOutputShapeException):  # the one that does wait, so the check can fail
            greedy_decode(latent, segments)
