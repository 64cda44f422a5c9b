"""Synthetic speech whose factors are known: sentence x speaker x speaking style."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import espeakng_loader
import numpy as np
import soundfile
import torch
from rich.progress import track

from disentangle_lightning.corpus import espeak
from disentangle_lightning.corpus.audio import SAMPLE_RATE, resample
from disentangle_lightning.corpus.espeak import Prosody
from disentangle_lightning.corpus.manifest import Corpus, Utterance
from disentangle_lightning.corpus.sentences import LANGUAGES, make_sentences
from disentangle_lightning.errors import UserError

SPEAKERS = {
    "Alicia": "female", "Lee": "male", "grandma": "female", "Storm": "male",
    "f4": "female", "Hugo": "male", "f5": "female", "m2": "male",
    "belinda": "female", "victor": "male", "Annie": "female", "m4": "male",
    "linda": "female", "Denis": "male", "f2": "female", "m7": "male",
}  # fmt: skip
"""The voices of the synthetic corpus (espeak-ng variants of American English) and their gender, those that are easiest
to tell apart first. The embedded encoder was trained on other voices; experiments/embedded_encoder lists them."""

STYLES = {
    "neutral": Prosody(rate=175, volume=100, pitch=50, range=45),
    "happy": Prosody(rate=195, volume=130, pitch=75, range=95),
    "sad": Prosody(rate=135, volume=60, pitch=30, range=15),
    "angry": Prosody(rate=220, volume=180, pitch=40, range=99),
}
"""Speaking styles as prosody: the directions of change are those that emotional speech shows; no claim is
made that a listener would name the emotion."""


@dataclass(frozen=True)
class _Clip:
    id: str
    text: str
    speaker: str
    style: str
    path: str
    language: str


class SyntheticSpeech:
    """A corpus reader that first speaks its corpus: every sentence by every speaker in `styles_per_sentence`
    styles.

    With four styles per sentence the three factors are fully crossed. With fewer, the styles rotate (a Latin
    square), so that every pair of factors stays fully crossed while the corpus shrinks.

    Audio is 16 kHz FLAC under `folder`, made once and bit-identical on every run; a clip that is already
    there is kept. Labels: speaker, gender, style, sentence, and the quality of the voice: breath (breathy or clear)
    and voicing (weak or full).

    Args:
        folder: where the audio goes.
        sentences: how many different sentences.
        speakers: how many voices, at most 16, both genders in turn.
        styles_per_sentence: 1 to 4 styles in which each speaker says each sentence.
        seed: decides the sentences.
        language: en-us or de; the embedded encoder was trained on English alone.

    Raises:
        UserError: a count is out of range, the language is another, or the folder was made with other settings.
    """

    def __init__(
        self,
        folder: str,
        sentences: int = 200,
        speakers: int = 12,
        styles_per_sentence: int = 4,
        seed: int = 0,
        language: str = "en-us",
    ) -> None:
        if not 1 <= speakers <= len(SPEAKERS):
            raise UserError(f"speakers is {speakers}; the synthetic corpus has 1 to {len(SPEAKERS)} voices")
        if not 1 <= styles_per_sentence <= len(STYLES):
            raise UserError(f"styles_per_sentence is {styles_per_sentence}; there are 1 to {len(STYLES)} styles")
        if sentences < 1:
            raise UserError(f"sentences is {sentences}; at least one is needed")
        if language not in LANGUAGES:
            raise UserError(f"language is '{language}'; the synthetic corpus speaks {' and '.join(LANGUAGES)}")
        self.folder = Path(folder)
        self._language = language
        self._voices = list(SPEAKERS)[:speakers]
        self._texts = make_sentences(sentences, seed, language=language)
        self._styles_per_sentence = styles_per_sentence

    def read(self) -> Corpus:
        """Synthesise what is missing, and return every utterance."""
        clips = self._clips()
        self._check_recipe()
        missing = [clip for clip in clips if not Path(clip.path).exists()]
        if missing:
            workers = os.cpu_count() or 1
            # Spawned, not forked: a fork of a process with torch's threads can hang.
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                spoken = pool.map(_speak, missing, chunksize=32)
                for _ in track(spoken, "Synthesising speech", total=len(missing)):
                    pass
        return Corpus([_to_utterance(clip) for clip in clips])

    def _clips(self) -> list[_Clip]:
        styles = list(STYLES)
        clips = []
        for s, text in enumerate(self._texts):
            for v, voice in enumerate(self._voices):
                for k in range(self._styles_per_sentence):
                    style = styles[(s + v // 2 + k) % len(styles)]
                    id = f"s{s:04d}_{voice}_{style}"
                    path = self.folder / voice / f"{id}.flac"
                    clips.append(_Clip(id, text, voice, style, str(path), self._language))
        return clips

    def _check_recipe(self) -> None:
        """The folder belongs to one recipe, so that a cached clip is never one of another text or style."""
        recipe = {
            "sentences": hashlib.sha256("\n".join(self._texts).encode()).hexdigest(),
            "styles": {name: asdict(prosody) for name, prosody in STYLES.items()},
            "engine": Path(espeakng_loader.get_library_path()).stat().st_size,
        }
        file = self.folder / "recipe.json"
        content = json.dumps(recipe, indent=1).encode()
        if file.exists():
            if file.read_bytes() != content:
                raise UserError(
                    f"{self.folder} holds synthetic speech made with other settings or another espeak-ng; "
                    "name another folder or delete this one"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(content)
        temporary.replace(file)


@functools.cache
def voice_quality(voice: str) -> dict[str, str]:
    """How a voice sounds, by what espeak-ng's own file of it sets.

    `breath` is breathy where noise goes with the voice; `voicing` is weak where the voiced part of the spectrum is
    below its normal level of 100.
    """
    settings = espeak.voice_settings(voice)
    return {
        "breath": "breathy" if any(settings.get("breath", [0])) else "clear",
        "voicing": "weak" if settings.get("voicing", [100])[0] < 100 else "full",
    }


def speak(text: str, voice: str, prosody: Prosody, language: str = "en-us") -> torch.Tensor:
    """One sentence in one voice: [samples] float32 at 16 kHz."""
    samples = espeak.synthesize(text, f"{language}+{voice}", prosody)
    return resample(torch.from_numpy(samples.astype(np.float32) / 32768), espeak.SAMPLE_RATE)


def _speak(clip: _Clip) -> None:
    torch.set_num_threads(1)
    path = Path(clip.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")  # two runs may fill one folder
    waveform = speak(clip.text, clip.speaker, STYLES[clip.style], clip.language).numpy()
    soundfile.write(temporary, waveform, SAMPLE_RATE, format="FLAC")
    temporary.replace(path)


def _to_utterance(clip: _Clip) -> Utterance:
    return Utterance(
        id=clip.id,
        audio=Path(clip.path).absolute(),
        transcription=clip.text,
        speaker=clip.speaker,
        labels={
            "gender": SPEAKERS[clip.speaker],
            "style": clip.style,
            "sentence": clip.id.split("_")[0],
            **voice_quality(clip.speaker),
        },
    )
