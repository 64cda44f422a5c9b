"""Which frames a prediction rests on, and how far the ways to tell can be believed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from disentangle_lightning.analysis.attribution.alignment import Alignment, Span
from disentangle_lightning.analysis.attribution.clips import choose, evenly
from disentangle_lightning.analysis.attribution.findings import (
    alignment_figures,
    evidence_figures,
    faithfulness_figures,
    seed_figures,
    similarity_figures,
)
from disentangle_lightning.analysis.attribution.gallery import exact_encoder, portraits_of, waveform_figures
from disentangle_lightning.analysis.attribution.listening import write_listening_page
from disentangle_lightning.analysis.attribution.measurement import align_split, explain_clips
from disentangle_lightning.analysis.attribution.portrait import draw_portrait
from disentangle_lightning.analysis.attribution.tables import (
    alignment_table,
    comparison_table,
    curves_drawing,
    evidence_table,
    faithfulness_table,
    similarity_table,
)
from disentangle_lightning.analysis.settings import AttributionSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import UserError
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.report.run_directory import to_measurements
from disentangle_lightning.report.wording import percent
from disentangle_lightning.summary import aggregate

LISTENING_PAGE, BOUNDARIES = "listen.html", "boundaries.json"

_MOST_LISTED = 20

_EXPLANATION = (
    "Stage 2 looks at the frames of both latents through attention. Attention says how much it looks at each frame; "
    "Integrated Gradients (IG) say how much each frame counts for the class that it gives. Whether either is to be "
    "believed is measured: frames are taken away in its order, and the prediction should fall faster than in random "
    "order."
)


def analyze(run: TrainedRun, settings: AttributionSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    if not run.tasks:
        raise DoesNotApply("the run has no Stage 2, whose predictions could be attributed to frames")
    clips = choose(run, settings.utterances, settings.word_scores)
    alignments = [align_split(run, seed) for seed in run.seeds]
    feasible = [{id: found for id, found in of_seed.items() if found} for of_seed in alignments]
    figures = aggregate([alignment_figures("attribution.alignment", of_seed) for of_seed in alignments])
    notes = _notes(run, len(clips), alignments[0])
    try:
        encoder = exact_encoder(run)
        notes.append(
            "Traced back to the waveform, a clip is compared with noise as loud as itself: a silence counts, too, "
            "where noise would have changed the prediction."
        )
    except UserError as error:
        encoder = None
        notes.append(f"Nothing was traced back to the waveform, for the speech encoder is not at hand: {error}.")

    curves, portraits = [], []
    for place, task in enumerate(run.tasks):
        name = f"attribution.{task}"
        of_seeds = [explain_clips(run, seed, task, clips, settings) for seed in run.seeds]
        figures |= aggregate(
            [
                evidence_figures(name, explanations)
                | faithfulness_figures(name, traces)
                | similarity_figures(name, explanations, clips, words)
                for (explanations, traces), words in zip(of_seeds, feasible, strict=True)
            ]
        )
        if len(run.seeds) > 1:
            figures |= seed_figures(name, [explanations for explanations, _ in of_seeds])
            notes.append(
                f"The {len(run.seeds)} seeds agree on the class ({task}) of "
                f"{percent(figures[f'{name}.between_seeds.share'])} of the explained utterances. Only of these is it "
                "asked whether they rank the frames alike."
            )
        explanations, traces = of_seeds[0]
        curves.append(curves_drawing(task, traces, f"attribution-curves{place}"))
        shown = evenly(list(zip(clips, explanations, strict=True)), settings.shown)
        of_task = portraits_of(run, task, shown, feasible[0], encoder, settings.waveform_steps)
        figures |= waveform_figures(name, of_task)
        portraits += of_task

    drawn = [(p, draw_portrait(p, f"attribution-portrait{place}")) for place, p in enumerate(portraits)]
    pages = {}
    if drawn:
        write_listening_page(folder / LISTENING_PAGE, run.path.resolve().name, drawn)
        pages[LISTENING_PAGE] = "utterances to look at and to listen to"
    if alignments[0]:
        _write_boundaries(folder / BOUNDARIES, alignments[0], run.frame_rate)
        pages[BOUNDARIES] = "where Stage 1 reads each word and letter of the test utterances, in seconds"
    measurements = to_measurements(figures)
    tables = [evidence_table(run.tasks, measurements)]
    for task in run.tasks:
        tables += [make(task, measurements) for make in (faithfulness_table, comparison_table, similarity_table)]
    if alignments[0]:
        tables.append(alignment_table(measurements))
    return AnalysisResult(
        "Which frames a prediction rests on",
        _EXPLANATION,
        figures,
        tables,
        [*curves, *(drawing for _, drawing in drawn[:1])],
        notes,
        pages,
    )


def _notes(run: TrainedRun, explained: int, alignments: Mapping[str, Alignment | None]) -> list[str]:
    total = len(run.latents(run.seeds[0], "test"))
    notes = [
        f"{explained} of {total} test utterances were explained, each for the class that Stage 2 gave it, "
        "right or wrong.",
        "A frame's score is that of its latents. The encoder has drawn on the whole clip for each of them, so what "
        "made a frame important may have been said elsewhere.",
        "Stages never learnt from pieces of utterances: how a prediction falls while frames are taken away also shows "
        "how it takes to shorter speech.",
    ]
    if len(run.seeds) == 1:
        notes.append("With one seed it is not known whether another training would rank the frames alike.")
    infeasible = [id for id, found in alignments.items() if found is None]
    if infeasible:
        more = len(infeasible) - _MOST_LISTED
        notes.append(
            f"{len(infeasible)} of {len(alignments)} transcriptions have more letters than their clips have frames and "
            f"were not aligned: {', '.join(infeasible[:_MOST_LISTED])}{f' and {more} more' if more > 0 else ''}."
        )
    if alignments:
        notes.append(
            "Words and letters are where Stage 1's CTC emits them, which is often for a frame or two of each sound: "
            "they are no phonetic boundaries."
        )
    else:
        notes.append("No test utterance has a transcription, so no words were aligned.")
    return notes


def _write_boundaries(file: Path, alignments: Mapping[str, Alignment | None], frame_rate: float) -> None:
    """{id: {"words" and "letters": [[text, begin, end, probability], ...]}}, and None where infeasible."""

    def seconds(spans: Sequence[Span]) -> list[list[str | float]]:
        return [
            [s.text, round(s.begin / frame_rate, 3), round(s.end / frame_rate, 3), round(s.probability, 3)]
            for s in spans
        ]

    content = {
        id: None if found is None else {"words": seconds(found.words), "letters": seconds(found.letters)}
        for id, found in alignments.items()
    }
    write_text(file, json.dumps(content, ensure_ascii=False) + "\n")
