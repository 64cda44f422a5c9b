"""Transcripts beside their references, word by word, errors marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from disentangle_lightning.report.run_directory import Transcript


@dataclass(frozen=True)
class MarkedTranscript:
    """One utterance, aligned.

    Attributes:
        reference: (words, mark) runs; mark is '' where right, 'missed' or 'changed'.
        hypothesis: (words, mark) runs; mark is '' where right, 'added' or 'changed'.
        wer: errors over words of the reference.
    """

    id: str
    reference: list[tuple[str, str]]
    hypothesis: list[tuple[str, str]]
    wer: float


def mark(transcript: Transcript) -> MarkedTranscript:
    """Align by the fewest word edits (jiwer)."""
    import jiwer

    output = jiwer.process_words(transcript.reference, transcript.hypothesis)
    said, read = output.references[0], output.hypotheses[0]
    reference: list[tuple[str, str]] = []
    hypothesis: list[tuple[str, str]] = []
    for chunk in output.alignments[0]:
        is_same, is_change = chunk.type == "equal", chunk.type == "substitute"
        for words, start, end, runs, lone in (
            (said, chunk.ref_start_idx, chunk.ref_end_idx, reference, "missed"),
            (read, chunk.hyp_start_idx, chunk.hyp_end_idx, hypothesis, "added"),
        ):
            if end > start:
                runs.append((" ".join(words[start:end]), "" if is_same else "changed" if is_change else lone))
    return MarkedTranscript(transcript.id, reference, hypothesis, float(output.wer))


def spread(transcripts: Sequence[Transcript], count: int) -> list[MarkedTranscript]:
    """At most `count` utterances, evenly spaced from the best read to the worst: no cherry-picking."""
    ranked = sorted((mark(t) for t in transcripts), key=lambda m: (m.wer, m.id))
    if len(ranked) <= count:
        return ranked
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]
