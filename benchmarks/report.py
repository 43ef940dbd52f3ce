"""What a run leaves: one JSON document, a table and a plot. All three are made from the document, so a kept one can be shown again."""

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.harness import Outcome, Schedule
from benchmarks.limits import Measured
from benchmarks.tasks import LimitTask, Target, Task

FORMAT = 1
ERROR_CHARACTERS = 300
COLOURS = {"ours": "#2f6fde", "peer": "#8a94a6", "bound": "#d9dde5"}


def result(outcome: Outcome, *, each: bool = False) -> dict[str, Any]:
    """One contender's entry: median, lowest and highest of its measured rounds, or null and the error. `each` adds the seconds of one."""
    measured = outcome.error is None
    median = statistics.median(outcome.rates) if measured else None
    return {
        "contender": outcome.contender.name,
        "role": outcome.contender.role,
        "unit": outcome.contender.unit,
        "median": None if median is None else _kept(median),
        "low": _kept(min(outcome.rates)) if measured else None,
        "high": _kept(max(outcome.rates)) if measured else None,
        **({"seconds_each": None if median is None else _kept(1 / median)} if each else {}),
        "rates": [_kept(rate) for rate in outcome.rates],
        "samples_per_round": outcome.samples,
        "setup": outcome.setup,
        "versions": dict(outcome.versions),
        "checks": dict(outcome.checks),
        "error": outcome.error,
    }


def _kept(rate: float) -> float:
    """A tenth of large figures, four digits of small ones."""
    return round(rate, 1) if rate >= 1000 else float(f"{rate:.4g}")


def document(
    outcomes: Sequence[Outcome],
    *,
    task: Task,
    schedule: Schedule,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    hardware: Mapping[str, Any],
    versions: Mapping[str, str],
    started: datetime,
) -> dict[str, Any]:
    """The whole run as JSON values."""
    results = compared([result(outcome, each=task.each) for outcome in outcomes])
    return {
        **_head(task, schedule, hardware, versions, started),
        "settings": {**settings, "seconds": schedule.seconds},
        "data": dict(data),
        "results": results,
        "targets": [held for target in task.targets if (held := judged(target, results))],
    }


def limit_document(
    measured: Measured,
    *,
    task: LimitTask,
    schedule: Schedule,
    data: Mapping[str, Any],
    hardware: Mapping[str, Any],
    versions: Mapping[str, str],
    started: datetime,
) -> dict[str, Any]:
    """A run of figures against limits as JSON values. `holds` is null where there is no limit, or no figure."""
    limits = []
    for limit in task.limits:
        values = [] if measured.error else measured.figures[limit.name]
        median = statistics.median(values) if values else None
        limits.append(
            {
                "figure": limit.name,
                "unit": limit.unit,
                "at_most": limit.at_most,
                "median": median,
                "low": min(values, default=None),
                "high": max(values, default=None),
                "values": values,
                "holds": None if median is None or limit.at_most is None else median <= limit.at_most,
                "summary": limit.summary,
            }
        )
    head = _head(task, schedule, hardware, versions, started)
    beside = {"beside": measured.beside} if task.beside else {}
    return {**head, "data": dict(data), "limits": limits, "notes": dict(measured.notes), **beside, "error": measured.error}


def _head(
    task: Task | LimitTask, schedule: Schedule, hardware: Mapping[str, Any], versions: Mapping[str, str], started: datetime
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "task": task.name,
        "summary": task.summary,
        "started": started.isoformat(timespec="seconds"),
        "hardware": dict(hardware),
        "versions": dict(versions),
        "rounds": schedule.rounds,
    }


def compared(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries with `ours_over`: how many times its rate ours had, round by round, as median, low and high.

    Rounds are taken in turns, so a pair ran next to each other: its ratio keeps still where a busy machine moves both rates.
    """
    ours = next((r["rates"] for r in results if r["role"] == "ours" and r["error"] is None), None)
    return [{**r, "ours_over": _ratios(ours, r["rates"]) if ours and r["error"] is None else None} for r in results]


def judged(target: Target, results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A target beside what was reached over the fastest of those it names; None where none of them, or not ours, was measured."""
    measured = [r for r in results if r["error"] is None]
    ours = next((r for r in measured if r["role"] == "ours" and target.ours in {"", r["contender"]}), None)
    others = [r for r in measured if r["contender"] in target.over]
    if ours is None or not others:
        return None
    fastest = max(others, key=lambda r: r["median"])
    reached = _ratios(ours["rates"], fastest["rates"])
    return {
        "ours": ours["contender"],
        "over": fastest["contender"],
        "fastest_of": list(target.over),
        "at_least": round(target.at_least, 3),
        "reached": reached,
        "holds": reached["median"] >= target.at_least,
    }


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {"median": round(statistics.median(pairs), 2), "low": round(min(pairs), 2), "high": round(max(pairs), 2)}


def _extent(data: Mapping[str, Any]) -> str:
    """How much there is in an epoch."""
    if "tokens" in data:
        return f"{data['tokens']:,} tokens in {data['documents']:,} documents"
    return f"{data['samples']:,} samples an epoch, {data['mean_bytes'] / 1000:.0f} kB on average"


def table(run: Mapping[str, Any]) -> Table:
    """Fastest first, the bounds and the failed last, each with how many times its rate ours had."""
    settings, data = run["settings"], run["data"]
    shown = Table(
        title=f"{run['task']}: {run['summary']}",
        caption=(
            f"{run['hardware']['cpu']}, {settings['threads']} threads or workers; median of {run['rounds']} rounds;"
            f" {_extent(data)}" + "".join(f"\n{told(target)}" for target in run.get("targets", ()))
        ),
    )
    shown.add_column("contender")
    for heading in ("median", "low", "high", "ours over it"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("unit")
    shown.add_column("remark")
    for r in ranked(run["results"]):
        if r["error"] is not None:
            shown.add_row(r["contender"], "–", "–", "–", "–", r["unit"], f"[red]failed:[/red] {_first_of(r['error'])}")
            continue
        over = r["ours_over"]
        times = "–" if over is None or r["role"] == "ours" else f"{over['median']:.2f} ({over['low']:.2f}–{over['high']:.2f})"
        remark = "a bound, not a peer" if r["role"] == "bound" else f"{r['seconds_each']:.3g} s each" if "seconds_each" in r else ""
        shown.add_row(r["contender"], *(_shown(r[key]) for key in ("median", "low", "high")), times, r["unit"], remark)
    return shown


def _first_of(error: str) -> str:
    """A line of an error, so that a table stays one; the document and the log have all of it."""
    line = error.strip().partition("\n")[0]
    return line if len(line) <= ERROR_CHARACTERS else f"{line[: ERROR_CHARACTERS - 1]}…"


def _shown(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:,.3g}"


def told(target: Mapping[str, Any]) -> str:
    """A line on a promise and what was reached."""
    reached, what = target["reached"], "reached" if target["holds"] else "MISSED"
    promised = f"{target['ours']} at least {target['at_least']:.2f} × {target['over']}"
    return f"target: {promised}: {what}, {reached['median']:.2f} ({reached['low']:.2f}–{reached['high']:.2f})"


def limit_table(run: Mapping[str, Any]) -> Table:
    """The figures beside their limits, in the task's order."""
    notes = "; ".join(f"{name}: {value}" for name, value in run["notes"].items())
    notes += "".join(f"\nbeside it, {name}: {_beside(answered)}" for name, answered in run.get("beside", {}).items())
    shown = Table(
        title=f"{run['task']}: {run['summary']}",
        caption=f"{run['hardware']['cpu']}; median of {run['rounds']} rounds, each a fresh process. {notes}",
    )
    shown.add_column("figure")
    for heading in ("median", "low", "high", "at most"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("unit")
    shown.add_column("remark")
    for x in run["limits"]:
        remark = f"[red]failed:[/red] {run['error']}" if run["error"] else {True: "holds", False: "[red]MISSED[/red]", None: ""}[x["holds"]]
        values = [x["median"], x["low"], x["high"], x["at_most"]]
        shown.add_row(x["figure"], *("–" if value is None else f"{value:,.4g}" for value in values), x["unit"], remark)
    return shown


def _beside(answered: Mapping[str, Any]) -> str:
    if "error" in answered:
        return f"cannot: {_first_of(answered['error'])}"
    return ", ".join(f"{name} {value:,.4g}" for name, value in answered["figures"].items())


def ranked(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Measured contenders by their median, then bounds, then those that failed."""
    return sorted(results, key=lambda r: (r["error"] is not None, r["role"] == "bound", -(r["median"] or 0)))


def plot(run: Mapping[str, Any], path: Path) -> None:
    """A bar for each contender, its whiskers from the lowest to the highest round. The suffix of `path` says SVG or PNG."""
    from matplotlib.figure import Figure

    shown = [r for r in ranked(run["results"]) if r["error"] is None][::-1]
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(shown)), layout="constrained")
    axes = figure.subplots()
    medians = [r["median"] for r in shown]
    whiskers = [[r["median"] - r["low"] for r in shown], [r["high"] - r["median"] for r in shown]]
    names = [f"{r['contender']} (a bound)" if r["role"] == "bound" else r["contender"] for r in shown]
    axes.barh(names, medians, xerr=whiskers, color=[COLOURS[r["role"]] for r in shown], ecolor="#333333", capsize=3)
    for row, r in enumerate(shown):
        axes.annotate(_shown(r["median"]), (0, row), xytext=(6, 0), textcoords="offset points", va="center", color="#111111")
    axes.set_xlabel(" or ".join(dict.fromkeys(r["unit"] for r in shown)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{run['task']}, {run['settings']['threads']} threads or workers, {run['hardware']['cpu']}", fontsize=9, loc="left")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
