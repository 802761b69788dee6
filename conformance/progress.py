"""How far a command is, on standard error, where that is a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.result import Case


class Progress:
    """A bar with the cases that are done and the time that is left; `said` stands beside it until one is done."""

    def __init__(self, said: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(said[:40], total=None)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def step(self, case: Case, number: int, total: int) -> None:
        """Show that `case` is done, the `number`th of `total`."""
        self.of(f"{case.adapter}: {case.fixture or case.subject}", number, total)

    def of(self, said: str, number: int, total: int) -> None:
        """Show that what is called `said` is done, the `number`th of `total`."""
        self._bar.update(self._task, completed=number, total=total, description=said[:40])

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
