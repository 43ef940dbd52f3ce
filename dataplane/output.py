"""What commands share: the lake they work on, what they print, and how they end.

With `--json` a command prints one JSON document on standard output and nothing else there; progress, notes and errors go to standard
error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some input was bad and is listed, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from dataplane.errors import DataplaneError, InvalidArgument, redact
from dataplane.lake import Lake

__all__ = [
    "BAD_INPUT",
    "DEFAULT_LAKE",
    "FAILED",
    "INTERRUPTED",
    "WRONG_USAGE",
    "AsJson",
    "LakeUrl",
    "command_line",
    "counted",
    "emit",
    "ending",
    "err",
    "exit_code",
    "human_bytes",
    "lake_url",
    "next_step",
    "open_lake",
    "out",
    "report_error",
    "report_interrupt",
]

FAILED: Final = 1
WRONG_USAGE: Final = 2
BAD_INPUT: Final = 3
INTERRUPTED: Final = 130
DEFAULT_LAKE: Final = "./lake"
_VARIABLE: Final = "DATAPLANE_LAKE"

LakeUrl = Annotated[
    str | None,
    typer.Option(
        "--lake", envvar=_VARIABLE, metavar="URL", help=f"The lake: a folder or a URL. Default {DEFAULT_LAKE}.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else there.")]


class _Output(Console):
    def on_broken_pipe(self) -> None:
        _leave_quietly()


def _leave_quietly() -> NoReturn:
    """The reader of our output has left, as `| head` does: nothing went wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


out = _Output(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def lake_url(context: typer.Context, lake: str | None) -> str:
    """The lake a command works on: its own `--lake`, else the one given before the command, else the environment's, else ./lake."""
    before = context.find_root().params.get("lake")
    given = context.get_parameter_source("lake")
    if lake is not None and (given is None or given.name == "COMMANDLINE"):
        return lake
    return before or lake or DEFAULT_LAKE


def open_lake(context: typer.Context, lake: str | None) -> Lake:
    """The existing lake a command works on. Raises `NotALake`, saying how to make one."""
    return Lake(lake_url(context, lake))


def command_line(context: typer.Context, arguments: str) -> str:
    """`dataplane ARGUMENTS` as a user would type it for the lake that this command works on: with `--lake URL` where neither the
    environment nor the default says which. Credentials in the URL are left out."""
    url = lake_url(context, context.params.get("lake"))
    known = url == (os.environ.get(_VARIABLE) or DEFAULT_LAKE)
    return f"dataplane {arguments}" if known else f"dataplane --lake {shlex.quote(redact(url))} {arguments}"


def next_step(context: typer.Context, arguments: str) -> None:
    """Tell what to do next: `dataplane ARGUMENTS`, which works as it stands (see `command_line`)."""
    out.print(f"Next: {command_line(context, arguments)}", markup=False)


def emit(document: Any, *, as_json: bool, human: Callable[[], None]) -> None:
    """End a command's work: print the document, or let `human` print tables and what to do next (to `out`)."""
    if not as_json:
        human()
    else:
        _write(document)


@contextmanager
def ending(*, as_json: bool) -> Iterator[None]:
    """Round a whole command line: every way to end that no command has told of itself is told here, and the process ends with its code.

    That is an error of this project, a call that the parser of the command line refuses, an interrupt, and a failure of the program,
    whose trace Python prints as ever.
    """
    try:
        yield
    except DataplaneError as error:
        sys.exit(report_error(error, as_json=as_json))
    except KeyboardInterrupt:
        report_interrupt("interrupted", as_json=as_json)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        refused: Any = end.__context__
        if isinstance(getattr(refused, "__cause__", None), KeyboardInterrupt):  # which typer has made an exit
            report_interrupt("interrupted", as_json=as_json)
        elif as_json and hasattr(refused, "format_message"):  # an error of the parser, which it has printed already
            _write_error("invalid-argument", str(refused.format_message()))
        raise
    except Exception as error:
        if as_json:
            _write_error("internal", redact(f"{type(error).__name__}: {error}"))
        raise


def report_error(error: DataplaneError, *, as_json: bool, more: Mapping[str, Any] | None = None) -> int:
    """Tell the user, on standard error and as the JSON document where one was asked for, with `more` in it. The exit code."""
    err.print("error:", style="bold red", end=" ")
    err.print(str(error), markup=False)
    if as_json:
        _write_error(error.kind, str(error), more)
    return exit_code(error)


def report_interrupt(message: str, *, as_json: bool) -> None:
    """Tell the user that a signal has ended the command before its work was done, as `report_error` tells of an error."""
    err.print(message, style="bold yellow", markup=False)
    if as_json:
        _write_error("interrupted", message)


def _write_error(kind: str, message: str, more: Mapping[str, Any] | None = None) -> None:
    _write({"error": {"kind": kind, "message": message}, **(more or {})})


def _write(document: Any) -> None:
    try:
        sys.stdout.write(json.dumps(document, ensure_ascii=True) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_quietly()


def exit_code(error: DataplaneError) -> int:
    """2 where the call was wrong, else 1."""
    return WRONG_USAGE if isinstance(error, InvalidArgument) else FAILED


def counted(count: int, noun: str) -> str:
    """`count` of what `noun` names: 1 problem, 2,000 problems."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def human_bytes(count: float) -> str:
    """`count` with a binary unit: 64.0 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
