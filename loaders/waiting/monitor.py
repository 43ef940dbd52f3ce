"""What users see of a loader's time: a dict, metrics, a live view, a trace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dataplane.errors import InvalidArgument
from loaders.stats import Stats
from loaders.waiting.metrics import exposition
from loaders.waiting.recent import Recent
from loaders.waiting.trace import Tracer
from loaders.waiting.tuner import Tuner
from loaders.waiting.verdict import Circumstances, Verdict, verdict
from loaders.waiting.view import Seen, view

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Monitor"]

_REFRESHES: Final = 4  # a second


@dataclass(frozen=True, slots=True)
class Monitor:
    """Looks at one loader, called `name`, of rank `rank`. `hot` gives the counters of its hot tier, of one store or by store, or None.
    Thread-safe."""

    name: str
    rank: int
    stats: Stats
    tuner: Tuner
    hot: Callable[[], Mapping[str, Any] | None]

    def to_dict(self) -> dict[str, Any]:
        """The totals, percentiles of waits, bytes by tier, what bounds the run, what helps, and the setting: plain JSON."""
        totals, hot, setting = self.stats.to_dict(), self.hot(), self.tuner.setting
        found = self._verdict(self.stats.recent(), hot)
        tuned = {"threads": setting.threads, "prefetch": setting.prefetch}
        tiers = _bytes_by_tier(totals["bytes"], hot)
        return {**totals, "bytes_by_tier": tiers, "tuned": tuned, "bound_by": found.bound_by, "advice": found.sentence, "hot": hot}

    def metrics(self) -> str:
        """The same in Prometheus' text form."""
        return exposition(self.to_dict(), labels={"data": self.name, "rank": str(self.rank)})

    def view(self) -> RenderableType:
        """The same as a picture of this moment."""
        hot = self.hot()
        tiers = _bytes_by_tier(self.stats.bytes, hot)
        recent = self.stats.recent()
        return view(Seen(self.name, recent, self._verdict(recent, hot), self.tuner.setting, tiers))

    @contextmanager
    def watch(self, console: Console | None) -> Iterator[None]:
        """Show that picture, renewed some times a second by a thread that ends with the block. What is no terminal gets it once, at the
        end."""
        from rich import get_console
        from rich.live import Live

        console = console or get_console()
        live = console.is_terminal or console.is_jupyter
        with Live(get_renderable=self.view, console=console, refresh_per_second=_REFRESHES, auto_refresh=live):
            yield

    @contextmanager
    def trace(self, file: str | os.PathLike[str]) -> Iterator[None]:
        """Gather a timeline, and write it to `file` in the end, whatever that is. An error that ends the block is what is raised; it has a
        note where the file could not be written."""
        path = Path(file)
        if not path.absolute().parent.is_dir():
            raise InvalidArgument(f"no trace can be written to {path}: there is no folder {path.absolute().parent}; make it first")
        tracer = Tracer(self.name)
        self.stats.trace(tracer)
        try:
            yield
        except BaseException as error:
            self.stats.trace(None)
            try:
                tracer.write(path)
            except InvalidArgument as unwritten:
                error.add_note(str(unwritten))
            raise
        self.stats.trace(None)
        tracer.write(path)

    def _verdict(self, recent: Recent, hot: Mapping[str, Any] | None) -> Verdict:
        evicting = any(each["evictions"] > 0 for each in _each(hot))
        tuner = self.tuner
        about = Circumstances(tuner.setting.threads, tuner.cores, hot is not None, evicting, tuner.tried, tuner.limited)
        return verdict(recent, about)


def _each(hot: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The counters of each store."""
    if hot is None:
        return []
    return [hot] if "hot_bytes" in hot else list(hot.values())


def _bytes_by_tier(read: int, hot: Mapping[str, Any] | None) -> dict[str, int]:
    """With a hot tier it knows: what hits gave, and what was fetched from cold, which is whole objects. Without, all are from cold."""
    if hot is None:
        return {"cold": read, "hot": 0}
    return {tier: sum(int(each[f"{tier}_bytes"]) for each in _each(hot)) for tier in ("cold", "hot")}
