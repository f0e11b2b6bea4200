"""Terminal output during a run and at its end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn


class View:
    """Progress on standard error, so that standard output has only the result."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a permanent line."""
        self._progress.console.print(text, highlight=False)

    @contextmanager
    def doing(self, text: str, *, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Show progress while the block runs. The block receives a function that advances the bar."""
        task = self._progress.add_task(text, total=total)

        def advance(by: float) -> None:
            self._progress.advance(task, by)

        try:
            yield advance
        finally:
            self._progress.remove_task(task)
