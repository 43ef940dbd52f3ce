"""Who names the versions of a dataset: tags, runs and models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dataplane.lake import Lake

__all__ = ["Users", "users_of", "versions_named"]

_NAMES: Final = (("name", "id"), ("dataset", "commit"))  # of a dataset and its commit: as runs and models name them, and states of loaders


@dataclass(slots=True)
class Users:
    """Version → those who name it, as "tag prod" or "run resnet"."""

    found: dict[int, list[str]] = field(default_factory=dict)

    def add(self, number: int, who: str) -> None:
        """`who` names version `number`."""
        known = self.found.setdefault(number, [])
        if who not in known:
            known.append(who)

    def of_versions(self) -> dict[int, str]:
        """Version → all of them, in one line."""
        return {number: ", ".join(sorted(who)) for number, who in self.found.items()}


def users_of(lake: Lake, name: str, *, tags: bool, used: bool) -> Users:
    """The users of the versions of a dataset: its tags, and runs and models (`used`)."""
    users = Users()
    for tag in lake.catalog.tags(name) if tags else ():
        users.add(lake.catalog.tagged(name, tag), f"tag {tag}")
    for kind in ("runs", "models") if used else ():
        for owner in lake.names("runs" if kind == "runs" else "models"):
            log = lake.log("runs" if kind == "runs" else "models", owner)
            for entry in log.read_many(range(1, log.newest() + 1)):
                for dataset, number, _ in versions_named(entry.body):
                    if dataset == name:
                        users.add(number, f"{kind[:-1]} {owner}")
    return users


def versions_named(body: Any) -> Iterator[tuple[str, int, str]]:
    """The versions of datasets that a commit of a run or model names: name, number, and the id of its commit. States of loaders name them
    too, and a mixture's those that it still has to go on with."""
    if isinstance(body, Mapping):
        for name, number, commit in ((body.get(of), body.get("version"), body.get(its)) for of, its in _NAMES):
            if isinstance(name, str) and isinstance(number, int) and isinstance(commit, str):
                yield name, number, commit
        body = list(body.values())
    if isinstance(body, list):
        for value in body:
            yield from versions_named(value)
