"""The command `dataplane demo`."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from dataplane.errors import InvalidArgument
from dataplane.output import AsJson, emit, err, out

__all__ = ["demo"]


def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Your own pictures, in a folder for each class. Default: handwritten digits."),
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Where everything goes; an earlier demo there is replaced.")] = Path("demo"),
    as_json: AsJson = False,
) -> None:
    """Everything once, in about a minute: ingest pictures, train, kill the training, resume, evaluate, publish, serve, ask.

    Prints each command, and leaves report.html, a lake and a configuration to go on with.
    """
    from train.demo.report import render
    from train.demo.steps import Subject, perform
    from train.demo.telling import tell
    from train.demo.workspace import workspace

    _check_apart(data, directory)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the children as Ctrl-C does
    with workspace(directory) as place:
        subject = Subject("digits", place.pictures, True, 0.95) if data is None else Subject(_name(data), data, False, 0.0)
        done = perform(subject, place, err if as_json else out)
        story = tell(subject, place, done)
        place.report.write_text(render(story), encoding="utf-8")
    document: dict[str, Any] = {
        "dataset": subject.name,
        "samples": story.samples,
        "accuracy": story.accuracy,
        "tested": story.tested,
        "seconds": round(story.seconds, 3),
        "exactly_once": story.check.ok,
        "killed": {"epoch": story.crash.epoch, "step": story.crash.killed_step, "resumed_step": story.crash.resumed_step},
        "report": str(place.report),
        "steps": [step.to_json() for step in story.steps],
    }

    def human() -> None:
        out.print(f"\nDone in {story.seconds:.0f} s: {story.accuracy:.1%} of {story.tested:,} test pictures are right.", markup=False)
        out.print(f"Next: open {place.report} in a browser", markup=False)

    emit(document, as_json=as_json, human=human)


def _check_apart(data: Path | None, directory: Path) -> None:
    """The pictures must not lie where an earlier demo is removed, nor the demo where it would be taken for pictures."""
    if data is None:
        return
    if not data.is_dir():
        raise InvalidArgument(f"--data {data} is no folder; give one that has a folder of pictures for each class")
    source, target = data.resolve(), directory.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise InvalidArgument(f"--data {data} and --dir {directory} lie within each other; choose another --dir")


def _name(data: Path) -> str:
    """A dataset's name from a folder's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", data.resolve().name).strip("-_")[:64] or "pictures"
