"""What a loader is doing, for people: the picture that `watch` shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dataplane.output import human_bytes
from dataplane.stages import Stage
from loaders.waiting.recent import WAITS, Recent, percentile
from loaders.waiting.tuning import Setting
from loaders.waiting.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["Seen", "view"]

_COLOURS: Final = {
    "consumer": "green",
    "cold": "blue",
    "hot": "cyan",
    "decode": "red",
    "transform": "magenta",
    "copy": "yellow",
    "plan": "bright_black",
    "idle": "bright_black",
}
_LABELS: Final = {
    "consumer": "model",
    "cold": "cold tier",
    "hot": "hot tier",
}
_BAR: Final = 28  # characters


@dataclass(frozen=True, slots=True)
class Seen:
    """A loader at one moment: its name, what it did lately, what that says, the setting, and bytes by tier since it was made."""

    name: str
    recent: Recent
    verdict: Verdict
    setting: Setting
    bytes_by_tier: Mapping[str, int]


def view(seen: Seen) -> RenderableType:
    """A panel: where the time of the newest steps went, p50 and p99 of their waits, what threads do, and the verdict."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts = (_steps(seen.recent), Text(), _facts(seen), Text(), Text(seen.verdict.sentence, style="bold"))
    return Panel(Group(*parts), title=Text(seen.name), title_align="left", padding=(1, 2))


def _steps(recent: Recent) -> Table:
    """A row for each thing a step's time went to."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bright_black")
    table.add_column(f"step ({_time(_mean_step(recent))})", min_width=14)
    table.add_column("share of the time", width=_BAR)
    for heading in ("", "p50", "p99"):
        table.add_column(heading, justify="right", min_width=7, no_wrap=True)
    times = {"consumer": [step.consumer for step in recent.steps]}
    times |= {stage.name.lower(): [step.waits[stage] for step in recent.steps] for stage in WAITS}
    total = sum(map(sum, times.values()))
    for name, values in times.items():
        share = sum(values) / total if total > 0 else 0.0
        figures = (_time(percentile(values, 0.5)), _time(percentile(values, 0.99)))
        table.add_row(_LABELS.get(name, name), _bar(share, _COLOURS[name]), f"{share:.0%}", *figures)
    return table


def _facts(seen: Seen) -> Table:
    """What threads do, and how fast it goes."""
    from rich.table import Table

    recent = seen.recent
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bright_black", min_width=14)
    table.add_column()
    if recent.seconds > 0:
        table.add_row("rate", f"{recent.samples / recent.seconds:,.0f} samples/s, {human_bytes(recent.bytes / recent.seconds)}/s")
    table.add_row("read", ", ".join(f"{tier} {human_bytes(size)}" for tier, size in seen.bytes_by_tier.items()))
    table.add_row("threads", f"{seen.setting.threads}: {_doing(recent)}")
    table.add_row("prefetch", f"{seen.setting.prefetch} batches")
    return table


def _doing(recent: Recent) -> str:
    """Shares of the threads' time, the largest first."""
    total = sum(recent.work)
    if not total > 0:
        return "–"
    shares = sorted(((recent.work[stage] / total, stage.name.lower()) for stage in Stage), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in shares if share >= 0.005)


def _mean_step(recent: Recent) -> float:
    return (sum(recent.waits) + recent.consumer) / len(recent.steps) if recent.steps else 0.0


def _bar(share: float, colour: str) -> str:
    eighths = round(share * _BAR * 8)
    whole, rest = divmod(eighths, 8)
    return f"[{colour}]{'█' * whole}{' ▏▎▍▌▋▊▉'[rest] if rest else ''}[/]"


def _time(seconds: float) -> str:
    if seconds < 1e-5:
        return "0"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.{0 if seconds >= 0.1 else 1}f} ms"
