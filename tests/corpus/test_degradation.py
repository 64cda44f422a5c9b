"""Noise is as loud as asked, a room rings as long as asked, and neither changes what it should not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from disentangle_lightning.corpus.degradation import add_noise, babble, reverberate, room_response, white_noise

RATE = 16_000


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech(seconds: float = 1.0, pitch: float = 200.0) -> Tensor:
    """A tone that swells, with a pause."""
    time = torch.arange(int(RATE * seconds)) / RATE
    return 0.2 * torch.sin(2 * math.pi * pitch * time) * (time < 0.7 * seconds) * time


@pytest.mark.parametrize("snr", [30.0, 20.0, 5.0, 0.0, -5.0])
@pytest.mark.parametrize("kind", ["white", "babble"])
def test_the_mixture_has_the_signal_to_noise_ratio_that_was_asked_for(snr: float, kind: str) -> None:
    clean = speech()
    noise = white_noise(len(clean), draws())
    if kind == "babble":
        noise = babble([speech(0.3, 300), speech(2.0, 150)], len(clean), draws())
    added = (add_noise(clean, noise, snr) - clean).double()
    measured = 10 * math.log10(clean.double().square().mean() / added.square().mean())
    assert measured == pytest.approx(snr, abs=0.01)


def test_in_babble_all_voices_are_as_loud_and_none_ends():
    quiet, loud = 0.001 * white_noise(800, draws(1)), 10 * white_noise(40_000, draws(2))
    mixture = babble([quiet, loud], 16_000, draws())
    assert len(mixture) == 16_000
    assert mixture.square().mean() == pytest.approx(2, rel=0.1)  # one each, and they have nothing in common
    period = mixture[:15_200] - mixture[800:]  # the short voice is there again, and cancels
    assert period.square().mean() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.5])
def test_a_room_rings_as_long_as_asked(rt60: float) -> None:
    response = room_response(rt60, draws()).double()
    assert response[0] == 1
    assert response[1:].square().sum() == pytest.approx(1)
    # Schroeder's backward integration: the energy that is still to come, in dB, falls on a line.
    left = 10 * torch.log10(response[1:].square().flip(0).cumsum(0).flip(0))
    first, last = (int((left < left[0] - fallen).nonzero()[0]) for fallen in (5, 25))
    assert 3 * (last - first) / RATE == pytest.approx(rt60, rel=0.1)  # T20


def test_reverberation_keeps_length_and_energy_and_smears_over_the_pause():
    clean = speech()
    wet = reverberate(clean, room_response(0.6, draws()))
    assert wet.shape == clean.shape
    assert wet.square().sum() == pytest.approx(float(clean.square().sum()), rel=1e-4)
    assert clean[12_000:].abs().max() == 0
    assert wet[12_000:].square().sum() > 0.01 * wet.square().sum()


def test_a_room_without_walls_changes_nothing():
    clean = speech()
    assert torch.allclose(reverberate(clean, torch.ones(1)), clean, atol=1e-6)


def test_the_same_draws_make_the_same_noise():
    assert torch.equal(white_noise(100, draws(3)), white_noise(100, draws(3)))
    assert not torch.equal(white_noise(100, draws(3)), white_noise(100, draws(4)))
