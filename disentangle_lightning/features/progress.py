"""How far encoding has come, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Speed(ProgressColumn):
    """Hours of audio an hour, over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.0f} x real time", style="progress.data.speed")


@contextmanager
def encoding_progress(
    seconds: Mapping[str, float], finished: Collection[str], show: bool = True
) -> Iterator[Callable[[Collection[str]], None]]:
    """A bar on standard error, if that is a terminal: clips, speed, and the time that remains.

    The bar goes by audio, not by clips: the longest come first, and clips would promise too late an end.

    Args:
        seconds: {id: how long the clip lasts} of all clips.
        finished: the ids that an earlier run encoded.
        show: False shows nothing.

    Yields:
        What to call with the ids that are done.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("Encoding"),
        BarColumn(),
        TextColumn("{task.fields[clips]} of {task.fields[of]} clips"),
        _Speed(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as bar:
        before = round(sum(seconds.get(id, 0.0) for id in finished))
        task = bar.add_task("", total=sum(seconds.values()), completed=before, clips=len(finished), of=len(seconds))

        def advance(ids: Collection[str]) -> None:
            clips = bar.tasks[task].fields["clips"] + len(ids)
            bar.update(task, advance=sum(seconds[id] for id in ids), clips=clips)

        yield advance
