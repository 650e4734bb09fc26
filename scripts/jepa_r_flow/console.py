"""What a person sees while a command works: one line a stage, on standard error."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

__all__ = ["Stage", "Stages", "stages_on_stderr"]


class Stage(Protocol):
    """Tells how far a stage is: ``done`` of ``total``."""

    def __call__(self, done: int, total: int) -> None: ...


class Stages:
    """Stages of a command, one after the other, each with a bar and its time."""

    def __init__(self, progress: Progress):
        self._progress = progress

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Show a stage while the body runs. Call what is yielded to move the bar."""
        self._progress.start()  # only now: a refused command shows no empty bars
        task = self._progress.add_task(name, total=None)

        def update(done: int, total: int) -> None:
            self._progress.update(task, completed=done, total=total)

        yield update
        self._progress.update(task, completed=1, total=1)


@contextlib.contextmanager
def stages_on_stderr() -> Iterator[Stages]:
    """Show bars on standard error; on a pipe, the finished stages alone."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    try:
        yield Stages(progress)
    finally:
        if progress.tasks:
            progress.stop()
