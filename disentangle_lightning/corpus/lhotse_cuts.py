"""Lhotse cut sets: cuts.jsonl or cuts.jsonl.gz with supervisions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.corpus.kaldi import by_split
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import usable
from disentangle_lightning.errors import UserError

_TOLERANCE = 0.02
"""Seconds by which a supervision may overshoot its cut: times are rounded, to a frame at worst."""

_FIELDS = ("id", "audio", "start", "duration", "transcription", "speaker", "split", "gender", "language")


class LhotseCutSet:
    """A corpus reader for Lhotse manifests of cuts (`lhotse cut simple`, icefall's `*_cuts_*.jsonl.gz`).

    Every supervision is an utterance: its text, its speaker, its stretch of the recording. Labels: gender, language,
    and what is text, a whole number or a flag in its custom fields. Ids are those of the supervisions. If any
    supervision has a text, those without are skipped.

    What this package cannot hear as it is meant is skipped too: cuts without a recording (features only), mixed,
    padded or multi-channel ones, recordings with a transform that is applied on loading, and audio that is not one
    sound file (a command, a URL, Shar).

    Args:
        cuts: a manifest, whose utterances then have no split; or one for each split, such as
            `{train: cuts_train.jsonl.gz, dev: cuts_dev.jsonl.gz, test: cuts_test.jsonl.gz}`.
        root: what relative paths of sound files are relative to; with Lhotse, the folder that it was run in.

    Raises:
        UserError: lhotse is not installed, a manifest is missing, damaged or not of cuts, an id occurs twice, or not
            one utterance can be used.
    """

    def __init__(self, cuts: str | dict[str, str], root: str = ".") -> None:
        self.manifests = by_split(cuts, "cuts")
        self.root = Path(root).absolute()

    def read(self) -> Corpus:
        """Read the manifests; the sound files are only looked for."""
        found = Corpus([])
        for split, manifest in self.manifests.items():
            for cut in _cuts(Path(manifest)):
                self._read_cut(cut, split, found)
        if any(u.transcription for u in found.utterances):
            found.skipped.extend(Skipped(u.id, "has no text") for u in found.utterances if not u.transcription)
            found = Corpus([u for u in found.utterances if u.transcription], found.skipped)
        return usable(found, f"cut set {', '.join(self.manifests.values())}")

    def _read_cut(self, cut: Any, split: str | None, found: Corpus) -> None:
        if reason := self._unusable(cut):
            found.skipped.append(Skipped(cut.id, reason))
            return
        for s in cut.supervisions:
            if s.start < -_TOLERANCE or s.end > cut.duration + _TOLERANCE:
                found.skipped.append(Skipped(s.id, f"reaches beyond its cut '{cut.id}'"))
                continue
            # Each stretch may overshoot by the tolerance, which is no part of it.
            start, end = max(0.0, s.start), min(s.end, cut.duration)
            labels = {k: str(v) for k, v in (s.custom or {}).items() if k not in _FIELDS and _is_label(v)}
            labels |= {"gender": gender_word(s.gender or "") or "", "language": s.language or ""}
            found.utterances.append(
                Utterance(
                    id=s.id,
                    audio=self._audio(cut),
                    start=round(cut.start + start, 6),
                    duration=round(end - start, 6),
                    transcription=(s.text or "").strip() or None,
                    speaker=s.speaker or None,
                    split=split,
                    labels={name: value for name, value in labels.items() if value},
                )
            )

    def _unusable(self, cut: Any) -> str | None:
        """Why a cut cannot be used, or None."""
        kind = type(cut).__name__
        if kind != "MonoCut":
            return f"is a {kind}, which has no single channel of a single recording"
        if not cut.has_recording:
            return "has no recording, only features" if cut.has_features else "has no recording"
        recording = cut.recording
        if recording.num_channels != 1 or len(recording.sources) != 1:
            return f"its recording has {recording.num_channels} channels; write each to a sound file of its own"
        if recording.transforms:
            return "its recording is transformed on loading; save it as a sound file (lhotse's save_audios)"
        if recording.sources[0].type != "file":
            return f"its audio is a {recording.sources[0].type}, not a sound file"
        if not self._audio(cut).is_file():
            return f"audio file {self._audio(cut)} does not exist"
        return None if cut.supervisions else "has no supervision"

    def _audio(self, cut: Any) -> Path:
        return self.root / str(cut.recording.sources[0].source)


def _cuts(manifest: Path) -> Iterator[Any]:
    try:
        from lhotse import CutSet
        from lhotse.cut import Cut
    except ImportError:
        raise UserError("LhotseCutSet needs the package lhotse; pip install 'lhotse>=1.33'") from None
    if not manifest.is_file():
        raise UserError(f"cut set {manifest} does not exist")
    try:
        for cut in CutSet.from_file(manifest):
            if not isinstance(cut, Cut):
                raise UserError(
                    f"{manifest} holds a {type(cut).__name__}, not cuts; make them with `lhotse cut simple`"
                )
            yield cut
    except (OSError, EOFError, ValueError, AssertionError, KeyError, TypeError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"{manifest} cannot be read as a Lhotse manifest of cuts: {reason}") from None


def _is_label(value: Any) -> bool:
    return isinstance(value, str | bool | int)
