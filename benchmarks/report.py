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
COLOURS = {"ours": "#2f6fde", "peer": "#8a94a6", "bound": "#d9dde5"}


def result(outcome: Outcome) -> dict[str, Any]:
    """One contender's entry: median, lowest and highest of its measured rounds, or null and the error."""
    measured = outcome.error is None
    return {
        "contender": outcome.contender.name,
        "role": outcome.contender.role,
        "unit": outcome.contender.unit,
        "median": round(statistics.median(outcome.rates), 1) if measured else None,
        "low": round(min(outcome.rates), 1) if measured else None,
        "high": round(max(outcome.rates), 1) if measured else None,
        "rates": [round(rate, 1) for rate in outcome.rates],
        "samples_per_round": outcome.samples,
        "setup": outcome.setup,
        "versions": dict(outcome.versions),
        "checks": dict(outcome.checks),
        "error": outcome.error,
    }


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
    results = compared([result(outcome) for outcome in outcomes])
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
    return {**head, "data": dict(data), "limits": limits, "notes": dict(measured.notes), "error": measured.error}


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


def table(run: Mapping[str, Any]) -> Table:
    """Fastest first, the bounds and the failed last, each with how many times its rate ours had."""
    settings, data = run["settings"], run["data"]
    shown = Table(
        title=f"{run['task']}: {run['summary']}",
        caption=(
            f"{run['hardware']['cpu']}, {settings['threads']} threads or workers; median of {run['rounds']} rounds;"
            f" {data['samples']:,} samples an epoch, {data['mean_bytes'] / 1000:.0f} kB on average"
            + "".join(f"\n{_told(target)}" for target in run.get("targets", ()))
        ),
    )
    shown.add_column("contender")
    for heading in ("median", "low", "high", "ours over it"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("unit")
    shown.add_column("remark")
    for r in ranked(run["results"]):
        if r["error"] is not None:
            shown.add_row(r["contender"], "–", "–", "–", "–", r["unit"], f"[red]failed:[/red] {r['error']}")
            continue
        over = r["ours_over"]
        times = "–" if over is None or r["role"] == "ours" else f"{over['median']:.2f} ({over['low']:.2f}–{over['high']:.2f})"
        remark = "a bound, not a peer" if r["role"] == "bound" else ""
        shown.add_row(r["contender"], f"{r['median']:,.0f}", f"{r['low']:,.0f}", f"{r['high']:,.0f}", times, r["unit"], remark)
    return shown


def _told(target: Mapping[str, Any]) -> str:
    reached, what = target["reached"], "reached" if target["holds"] else "MISSED"
    promised = f"{target['ours']} at least {target['at_least']:.2f} × {target['over']}"
    return f"target: {promised}: {what}, {reached['median']:.2f} ({reached['low']:.2f}–{reached['high']:.2f})"


def limit_table(run: Mapping[str, Any]) -> Table:
    """The figures beside their limits, in the task's order."""
    notes = "; ".join(f"{name}: {value}" for name, value in run["notes"].items())
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
        axes.annotate(f"{r['median']:,.0f}", (0, row), xytext=(6, 0), textcoords="offset points", va="center", color="#111111")
    axes.set_xlabel(" or ".join(dict.fromkeys(r["unit"] for r in shown)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{run['task']}, {run['settings']['threads']} threads or workers, {run['hardware']['cpu']}", fontsize=9, loc="left")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
