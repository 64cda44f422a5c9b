"""Synthetic speech: crossed factors, the same samples every time, prosody that can be heard."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from disentangle_lightning.corpus import synthetic
from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.espeak import Prosody, synthesize
from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.sentences import make_sentences
from disentangle_lightning.corpus.synthetic import SPEAKERS, STYLES, SyntheticSpeech, speak, voice_quality
from disentangle_lightning.errors import UserError


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speak without worker processes: each would import torch for a few clips."""

    class Here:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None: ...
        def map(self, function: object, clips: object, chunksize: int) -> object:
            return map(function, clips)  # type: ignore[call-overload]

    monkeypatch.setattr(synthetic, "ProcessPoolExecutor", Here)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def content(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.*"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Utterance]]:
    """3 sentences x 4 speakers x 4 styles, spoken by the real worker processes."""
    folder = tmp_path_factory.mktemp("speech")
    found = SyntheticSpeech(str(folder), sentences=3, speakers=4).read()
    assert found.skipped == []
    return folder, found.utterances


def test_every_combination_of_the_factors_is_spoken_once(corpus: tuple[Path, list[Utterance]]) -> None:
    _, utterances = corpus
    factors = Counter((u.label("sentence"), u.speaker, u.label("style")) for u in utterances)
    expected = product(("s0000", "s0001", "s0002"), list(SPEAKERS)[:4], STYLES)
    assert factors == Counter(expected)
    assert len({u.id for u in utterances}) == 48
    for u in utterances:
        assert u.label("gender") == SPEAKERS[u.speaker or ""]
        assert u.audio.is_absolute()
    texts = {(u.label("sentence"), u.transcription) for u in utterances}
    assert len(texts) == len({text for _, text in texts}) == 3


@pytest.mark.parametrize("styles_per_sentence", [1, 2, 3])
def test_every_pair_of_factors_stays_crossed_with_fewer_styles(tmp_path: Path, styles_per_sentence: int) -> None:
    reader = SyntheticSpeech(str(tmp_path), 8, 8, styles_per_sentence)
    clips = reader._clips()
    assert len(clips) == 8 * 8 * styles_per_sentence
    for one, other in (("text", "speaker"), ("text", "style"), ("speaker", "style")):
        pairs = Counter((getattr(c, one), getattr(c, other)) for c in clips)
        assert len(pairs) == len({a for a, _ in pairs}) * len({b for _, b in pairs})
        assert len(set(pairs.values())) == 1
    genders = Counter((SPEAKERS[c.speaker], c.style) for c in clips)
    assert len(genders) == 8
    assert len(set(genders.values())) == 1


@pytest.mark.parametrize("speakers", range(2, 17))
def test_both_genders_speak_in_equal_numbers(speakers: int) -> None:
    genders = Counter(list(SPEAKERS.values())[:speakers])
    assert abs(genders["female"] - genders["male"]) <= 1


def test_another_folder_gets_the_same_bits(corpus: tuple[Path, list[Utterance]], tmp_path: Path) -> None:
    SyntheticSpeech(str(tmp_path), sentences=3, speakers=4).read()
    assert content(tmp_path) == content(corpus[0])


def test_killed_half_way_and_run_again_gives_the_same_bits(
    corpus: tuple[Path, list[Utterance]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = 0
    write = soundfile.write

    def die(path: Path, *args: object, **kwargs: object) -> None:
        nonlocal spoken
        spoken += 1
        if spoken == 20:
            path.write_bytes(b"half a clip")
            raise KeyboardInterrupt
        write(path, *args, **kwargs)

    reader = SyntheticSpeech(str(tmp_path), sentences=3, speakers=4)
    monkeypatch.setattr(soundfile, "write", die)
    with pytest.raises(KeyboardInterrupt):
        reader.read()
    assert len(list(tmp_path.rglob("*.flac"))) == 19
    monkeypatch.setattr(soundfile, "write", write)
    reader.read()
    again = {name: digest for name, digest in content(tmp_path).items() if not name.endswith(".tmp")}
    assert again == content(corpus[0])


def test_clips_that_are_there_are_kept(corpus: tuple[Path, list[Utterance]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, utterances = corpus
    monkeypatch.setattr(synthetic, "_speak", pytest.fail)
    assert SyntheticSpeech(str(folder), sentences=3, speakers=4).read().utterances == utterances


def test_a_folder_of_another_recipe_is_refused(corpus: tuple[Path, list[Utterance]]) -> None:
    folder, _ = corpus
    for settings in ({"sentences": 2}, {"sentences": 3, "seed": 1}):
        with pytest.raises(UserError, match="made with other settings"):
            SyntheticSpeech(str(folder), **settings).read()


def test_a_damaged_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(UserError, match="made with other settings"):
        SyntheticSpeech(str(tmp_path), sentences=1, speakers=1).read()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sentences": 0}, "sentences is 0"),
        ({"speakers": 0}, "1 to 16 voices"),
        ({"speakers": 17}, "1 to 16 voices"),
        ({"styles_per_sentence": 5}, "1 to 4 styles"),
        ({"language": "fr"}, "language is 'fr'; the synthetic corpus speaks en-us and de"),
    ],
)
def test_what_cannot_be_spoken_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SyntheticSpeech(str(tmp_path), **settings)


def test_german_is_spoken_by_the_same_voices_as_german(tmp_path: Path) -> None:
    reader = SyntheticSpeech(str(tmp_path), sentences=6, speakers=2, styles_per_sentence=1, language="de")
    german = reader.read().utterances
    assert {u.transcription for u in german} == set(make_sentences(6, language="de"))
    first = german[0]
    spoken = load_utterance(first)
    text, style = first.transcription or "", STYLES[first.label("style") or ""]
    assert len(spoken) == len(speak(text, first.speaker or "", style, "de"))
    assert len(spoken) != len(speak(text, first.speaker or "", style))
    with pytest.raises(UserError, match="made with other settings"):
        SyntheticSpeech(str(tmp_path), sentences=6, speakers=2, styles_per_sentence=1).read()


def pitch(waveform: torch.Tensor) -> float:
    """Median fundamental frequency in Hz, by autocorrelation of loud 40 ms frames."""
    frames = waveform.unfold(0, 640, 320).double()
    frames = frames[frames.square().mean(1) > frames.square().mean() / 2]
    spectrum = torch.fft.rfft(frames - frames.mean(1, keepdim=True), 2048).abs().square()
    correlation = torch.fft.irfft(spectrum)[:, 16_000 // 400 : 16_000 // 60]
    return 16_000 / (16_000 // 400 + correlation.argmax(1).double().median().item())


def test_styles_can_be_heard(corpus: tuple[Path, list[Utterance]]) -> None:
    """Faster, higher and louder is what `STYLES` says of happy against sad, for every speaker and sentence."""
    waves = {(u.speaker, u.label("sentence"), u.label("style")): load_utterance(u) for u in corpus[1]}
    for speaker, sentence in {key[:2] for key in waves}:
        happy, sad = waves[speaker, sentence, "happy"], waves[speaker, sentence, "sad"]
        assert len(happy) < 0.85 * len(sad)
        assert pitch(happy) > 1.1 * pitch(sad)
        assert happy.square().mean() > 1.5 * sad.square().mean()
        assert len(waves[speaker, sentence, "angry"]) < len(waves[speaker, sentence, "neutral"])


def test_no_two_voices_sound_the_same() -> None:
    """espeak-ng speaks a misspelt variant in its default voice, without a word about it."""
    spoken = {synthesize("the red dog", f"en-us+{v}", Prosody()).tobytes() for v in SPEAKERS}
    spoken.add(synthesize("the red dog", "en-us", Prosody()).tobytes())
    assert len(spoken) == len(SPEAKERS) + 1


@pytest.mark.parametrize("voice", ["en-us+nobody", "no-such-language"])
def test_an_unknown_voice_is_refused(voice: str) -> None:
    with pytest.raises(ValueError, match="has no voice"):
        synthesize("hello", voice, Prosody())


def test_speech_does_not_depend_on_what_was_said_before() -> None:
    first = speak("the red dog", "Annie", STYLES["angry"])
    speak("something else entirely", "Storm", STYLES["sad"])
    assert torch.equal(speak("the red dog", "Annie", STYLES["angry"]), first)
    assert first.dtype == torch.float32
    assert 0.05 < np.abs(first.numpy()).max() <= 1.1


def test_the_recipe_names_what_made_the_audio(corpus: tuple[Path, list[Utterance]]) -> None:
    recipe = json.loads((corpus[0] / "recipe.json").read_text())
    assert recipe["styles"]["sad"]["rate"] == STYLES["sad"].rate


def test_voice_quality_is_what_the_voices_files_set():
    assert voice_quality("Alicia") == {"breath": "breathy", "voicing": "weak"}
    assert voice_quality("Storm") == {"breath": "clear", "voicing": "full"}  # its breath is set, to zeros
    assert {quality for voice in SPEAKERS for quality in voice_quality(voice).values()} == {
        "breathy", "clear", "weak", "full",
    }  # fmt: skip
