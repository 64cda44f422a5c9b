"""espeak-ng through ctypes: text and a voice in, the same samples out every time."""

from __future__ import annotations

import _ctypes
import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 22_050
"""What espeak-ng synthesises at, in Hz."""

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_POSITION_CHARACTER = 1
_CHARACTERS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_NOISE_SEED = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Prosody:
    """How a sentence is spoken, in espeak-ng's units.

    Attributes:
        rate: words per minute; 175 is espeak-ng's normal.
        volume: 100 is normal, 200 the most.
        pitch: 0 to 99 around the voice's own pitch; 50 is normal.
        range: 0 (monotone) to 99 (lively); 50 is normal.
    """

    rate: int = 175
    volume: int = 100
    pitch: int = 50
    range: int = 50


def synthesize(text: str, voice: str, prosody: Prosody) -> NDArray[np.int16]:
    """Speak `text`: [samples] int16 at `SAMPLE_RATE`, bit-identical for identical arguments.

    Args:
        text: plain text, no mark-up.
        voice: a language and a variant, `en-us+f2`.
        prosody: rate, volume, pitch and range.

    Raises:
        ValueError: espeak-ng does not know the voice.
    """
    # espeak-ng speaks an unknown variant in the language's default voice, without a word about it.
    _, _, variant = voice.partition("+")
    if variant and not _variant_file(variant).is_file():
        raise ValueError(f"espeak-ng has no voice variant '{variant}'")
    # espeak-ng keeps oscillator phases, flutter and noise in static variables that no call resets, so that a
    # sentence would sound a little different after every other one. Unloading the library resets them
    # all (7 ms).
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    chunks: list[NDArray[np.int16]] = []

    def collect(wave: Any, samples: int, _events: Any) -> int:
        if wave and samples > 0:
            chunks.append(np.ctypeslib.as_array(wave, (samples,)).copy())
        return 0

    callback = _CALLBACK(collect)
    try:
        library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(_NOISE_SEED))
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice '{voice}'")
        for parameter, value in (
            (_RATE, prosody.rate),
            (_VOLUME, prosody.volume),
            (_PITCH, prosody.pitch),
            (_RANGE, prosody.range),
        ):
            library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None)
        library.espeak_Synchronize()
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16)


def voice_settings(variant: str) -> dict[str, list[int]]:
    """The numbers that the file of a voice variant sets, by their names: {"breath": [0, 4, 6], "voicing": [75]}."""
    settings: dict[str, list[int]] = {}
    for line in _variant_file(variant).read_text(encoding="utf-8").splitlines():
        name, *values = line.partition("//")[0].split() or [""]
        if values and all(re.fullmatch(r"-?\d+", value) for value in values):
            settings[name] = [int(value) for value in values]
    return settings


def _variant_file(variant: str) -> Path:
    return Path(espeakng_loader.get_data_path()) / "voices" / "!v" / variant
