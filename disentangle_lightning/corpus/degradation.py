"""Speech as it sounds elsewhere: noise at a set level, the voices of others, a room."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from disentangle_lightning.corpus.audio import SAMPLE_RATE


def add_noise(speech: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """The mixture of both, [samples], with 10 log10(power of speech / power of noise) = `snr_db` over the whole clip.

    The speech is as loud as before; the level counts its pauses, so that speech with many of them is masked less.

    Args:
        speech, noise: [samples], neither silent.
        snr_db: the signal-to-noise ratio.
    """
    wanted = speech.square().mean() / 10 ** (snr_db / 10)
    return speech + noise * (wanted / noise.square().mean()).sqrt()


def white_noise(samples: int, generator: torch.Generator) -> Tensor:
    """[samples] of Gaussian noise, as loud at every frequency."""
    return torch.randn(samples, generator=generator)


def babble(voices: Sequence[Tensor], samples: int, generator: torch.Generator) -> Tensor:
    """[samples] of several voices at once, equally loud, each from a random place on and over again where it ends."""
    mixture = torch.zeros(samples)
    for voice in voices:
        start = int(torch.randint(len(voice), (1,), generator=generator))
        repeated = voice.roll(-start).repeat(math.ceil(samples / len(voice)))[:samples]
        mixture += repeated / voice.square().mean().sqrt()
    return mixture


def room_response(rt60: float, generator: torch.Generator) -> Tensor:
    """A room's impulse response, [samples]: the direct sound, then Gaussian noise whose level falls by 60 dB in `rt60`.

    Polack's model of late reverberation, h(t) = n(t) exp(-t ln(1000) / RT60), with as much energy as the direct sound.
    It has no early reflections and decays alike at every frequency: real rooms of the same RT60 sound otherwise.

    Args:
        rt60: the reverberation time in seconds.
        generator: of the noise.
    """
    samples = max(1, round(rt60 * SAMPLE_RATE))
    time = torch.arange(samples) / SAMPLE_RATE
    tail = torch.randn(samples, generator=generator) * torch.exp(-time * math.log(1000) / rt60)
    return torch.cat([torch.ones(1), tail / tail.square().sum().sqrt()])


def reverberate(speech: Tensor, response: Tensor) -> Tensor:
    """Speech in a room, [samples], as long and with as much energy as before: what rings on after its end is cut off.

    Args:
        speech: [samples].
        response: `room_response`.
    """
    from torchaudio.functional import fftconvolve

    wet: Tensor = fftconvolve(speech, response)[: len(speech)]
    return wet * (speech.square().sum() / wet.square().sum()).sqrt()
