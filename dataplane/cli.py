"""The command line `dataplane`. Sub-commands come from the entry-point group `dataplane.commands` and from `dataplane.commands`."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from typing import Annotated, Any

import typer

from dataplane.output import LakeUrl, ending

__all__ = ["build", "main"]

_GROUP = "dataplane.commands"
_OWN = {
    "Data in": {"init": "dataplane.commands", "ingest": "dataplane.ingest.command", "adopt": "dataplane.adopt.command"},
    "Look": {
        "ls": "dataplane.commands",
        "show": "dataplane.stats.commands",
        "head": "dataplane.stats.commands",
        "log": "dataplane.commands",
        "diff": "dataplane.versions.commands",
        "lineage": "dataplane.versions.commands",
    },
    "Versions": dict.fromkeys(("tag", "clone", "append", "where", "split"), "dataplane.versions.commands"),
    "Care": dict.fromkeys(("verify", "usage", "expire", "rm", "gc"), "dataplane.upkeep.commands"),
}


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"dataplane {metadata.version('dataplane')}\n")
        raise typer.Exit


def _root(
    lake: LakeUrl = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Raw data in at one end, trained models out at the other.

    A lake (a folder or an object store) holds datasets, runs and models. Start with:

        dataplane ingest ./photos photos --label-from folder --split train=0.9,test=0.1

        dataplane show photos

    Every command takes --json. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some input was bad and is listed.
    """


def build() -> typer.Typer:
    """The whole command line, with the sub-commands of every installed package."""
    app = typer.Typer(name="dataplane", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", add_completion=True)
    app.callback()(_root)
    for panel, modules in _OWN.items():
        for name, module in modules.items():
            app.command(name, rich_help_panel=panel)(getattr(importlib.import_module(module), name))
    for entry in sorted(metadata.entry_points(group=_GROUP), key=lambda entry: entry.name):
        command: Any = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name, rich_help_panel="Train, serve, tier")
        else:
            app.command(entry.name, rich_help_panel="Train, serve, tier")(command)
    return app


def main() -> None:
    """Run the command line; exit with its code."""
    with ending(as_json="--json" in sys.argv):
        build()()
