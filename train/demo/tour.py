"""Does steps one after another: says what comes, times it, says what came of it, and keeps it for the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from train.demo.processes import Command, run
from train.demo.story import Step

__all__ = ["Outcome", "Tour"]

Outcome = tuple[str, Mapping[str, Any]]
"""What came of a step: a sentence, and the result."""


class Tour:
    """The steps of one demo, told to a console. Not thread-safe."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps: list[Step] = []

    def command(
        self,
        name: str,
        why: str,
        command: Command,
        tell: Callable[[Mapping[str, Any]], str],
        *,
        allowed: tuple[int, ...] = (0,),
        kind: str = "done",
    ) -> Mapping[str, Any]:
        """A step that is one command: its JSON document, of which `tell` makes a sentence. Raises `DemoFailed`."""

        def work() -> Outcome:
            document = run(command, allowed=allowed)
            return tell(document), document

        return self.step(name, why, str(command), work, kind=kind)

    def step(self, name: str, why: str, command: str, work: Callable[[], Outcome], *, kind: str = "done") -> Mapping[str, Any]:
        """A step that `work` does; its result."""
        say = self.console.print
        say(f"\n[bold]{len(self.steps) + 1}. {name}[/]")
        say(why, markup=False, style="dim")
        if command:
            say(f"$ {command}", markup=False, style="cyan")
        start = time.perf_counter()
        outcome, result = work()
        seconds = time.perf_counter() - start
        say("[green]✓[/]", end=" ")
        say(f"{outcome} ({seconds:.1f} s)", markup=False)
        self.steps.append(Step(name, why, command, seconds, outcome, result, kind))
        return result
