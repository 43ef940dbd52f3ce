"""Runs `dataplane` commands as processes of their own, and leaves none behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from dataplane.errors import DataplaneError

__all__ = ["Command", "DemoFailed", "run", "started", "stop"]

_MAIN: Final = "from dataplane.cli import main; main()"
_PATIENCE_SECONDS: Final = 20.0


class DemoFailed(DataplaneError, RuntimeError):
    """A step of the demo did not do what it should."""

    kind = "demo-failed"


@dataclass(frozen=True, slots=True)
class Command:
    """A call of `dataplane`; `str` is what a person would type for it."""

    arguments: tuple[str, ...]
    settings: tuple[str, ...] = ()
    """Of the environment, as NAME=VALUE."""

    def __str__(self) -> str:
        return shlex.join((*self.settings, "dataplane", *self.arguments))


def run(command: Command, *, allowed: tuple[int, ...] = (0,)) -> Any:
    """The JSON document of a command that runs to its end; what it says of its progress goes to our standard error.

    Raises `DemoFailed` for an exit code that is not `allowed`.
    """
    with started(command, watch=False) as process:
        document, _ = process.communicate()
    if process.returncode not in allowed:
        raise DemoFailed(f"exit code {process.returncode} from: {command}; what it said is above")
    return json.loads(document)


@contextmanager
def started(command: Command, *, watch: bool) -> Iterator[subprocess.Popen[str]]:
    """A command that is running with --json, its standard output a pipe and, to `watch` it, its standard error too.

    It leads a process group of its own; when the block ends, however it ends, the group is interrupted and at last killed.
    """
    with ExitStack() as stack:
        with _signals_held():
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _MAIN, *command.arguments, "--json"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE if watch else None,
                    text=True,
                    env=os.environ | dict(setting.split("=", 1) for setting in command.settings),
                    process_group=0,
                )
            )
            stack.callback(stop, process)
        yield process


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come in the block are acted on at its end: in the middle of starting a process, nobody would know it yet."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda got, _: came.append(got)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in came:
        signal.raise_signal(late)


def stop(process: subprocess.Popen[str]) -> None:
    """Interrupt a command's process group as Ctrl-C does, and wait; kill what has not ended by then. Nothing where it has ended."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
