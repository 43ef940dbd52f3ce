"""The command line `dataplane`. Sub-commands are those of `_OWN`, and those of packages in the entry-point group `dataplane.commands`.

One is loaded when it is called: what `gc` imports is nothing that `ls` should wait for.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dataplane.output import LakeUrl, ending

__all__ = ["build", "main"]

_GROUP = "dataplane.commands"
_MARKUP: Final = "rich"
_OTHERS = "Train, serve, tier"
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
    "Versions": {
        **dict.fromkeys(("tag", "clone", "append", "where", "split"), "dataplane.versions.commands"),
        "materialize": "dataplane.materialize.command",
    },
    "Care": dict.fromkeys(("verify", "usage", "expire", "rm", "gc"), "dataplane.upkeep.commands"),
}


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"dataplane {version('dataplane')}\n")
        raise typer.Exit


def _root(
    lake: LakeUrl = None,
    show_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Raw data in at one end, trained models out at the other.

    A lake (a folder or an object store) holds datasets, runs and models. Start with:

        dataplane ingest ./photos photos --label-from folder --split train=0.9,test=0.1

        dataplane show photos

    Every command takes --json. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some input was bad and is listed.
    """


class _Commands(TyperGroup):
    """The sub-commands by name, each loaded when it is asked for; help asks for all."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_places())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        places = _places()
        for name in [cmd_name] if cmd_name in places else places:  # all, to say which of them may have been meant
            if name not in self.commands:
                self.commands[name] = _load(*places[name])
        return super().get_command(ctx, cmd_name)


@cache
def _places() -> dict[str, tuple[str, EntryPoint]]:
    """The panel of the help and the place of each sub-command, in the order of the help."""
    own = {
        name: (panel, EntryPoint(name, f"{module}:{name}", _GROUP)) for panel, modules in _OWN.items() for name, module in modules.items()
    }
    return own | {entry.name: (_OTHERS, entry) for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name)}


def _load(panel: str, entry: EntryPoint) -> Any:
    found: Any = entry.load()
    app = typer.Typer(rich_markup_mode=_MARKUP, add_completion=False)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=entry.name, rich_help_panel=panel)
        return get_command(app).commands[entry.name]  # type: ignore[attr-defined]
    app.command(entry.name, rich_help_panel=panel)(found)
    return get_command(app)


def build() -> typer.Typer:
    """The whole command line, with the sub-commands of every installed package."""
    app = typer.Typer(
        name="dataplane",
        cls=_Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=_MARKUP,
        add_completion=True,
    )
    app.callback()(_root)
    return app


def main() -> None:
    """Run the command line; exit with its code."""
    with ending(as_json="--json" in sys.argv):
        build()()
