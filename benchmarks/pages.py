"""The kept runs as a part of a documentation page: of each task the newest run, as tables and plots.

Everything comes from the documents in `benchmarks/results/`; a page has the part between two comments, which is replaced as a whole.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import ranked, told

BEGIN, END = "<!-- kept runs: made by `python -m benchmarks report --write` -->", "<!-- end of kept runs -->"


def newest(results: Path, tasks: Sequence[str]) -> list[tuple[Path, dict[str, Any]]]:
    """The newest document of each task that has one, in the order of `tasks`."""
    documents = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(results.glob("*.json"))]
    last = {document["task"]: (path, document) for path, document in documents}
    return [last[task] for task in tasks if task in last]


def page(runs: Iterable[tuple[Path, Mapping[str, Any]]], *, images: str) -> str:
    """Markdown of these runs. Plots are linked as `IMAGES/TASK.svg`."""
    return "\n\n".join(_section(path.name, run, images) for path, run in runs)


def replaced(text: str, made: str) -> str:
    """The page with what is between its two comments replaced. Raises ValueError where they are not there once each, in this order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the page needs one line {BEGIN!r} and, after it, one line {END!r}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.partition(END)[2]}"


def _section(name: str, run: Mapping[str, Any], images: str) -> str:
    busy = run["hardware"]["busy"]
    rest = f", on a machine that was busy ({busy:g} for each core)" if busy > 0.25 else ""
    head = f"**{run['task']}**: {run['summary']} (`{name}`; {run['hardware']['cpu']}, {run['rounds']} rounds{rest})"
    if "limits" in run:
        return "\n\n".join([head, *_limits(run)])
    promises = "\n".join(f"* {told(target)}" for target in run.get("targets", ()))
    plot = f"![{run['task']}]({images}/{run['task']}.svg)"
    return "\n\n".join(filter(None, [head, _contenders(run), promises, plot]))


def _contenders(run: Mapping[str, Any]) -> str:
    rows = ["| contender | median (low to high) | ours over it, round by round |", "| --- | --- | --- |"]
    for r in ranked(run["results"]):
        if r["error"] is not None:
            rows.append(f"| `{r['contender']}` | failed: {r['error'].strip().splitlines()[0][:200]} | |")
            continue
        over = r["ours_over"]
        each = f"; {r['seconds_each']:.3g} s each" if "seconds_each" in r else ""
        times = "–" if over is None or r["role"] == "ours" else f"{over['median']:.2f} ({over['low']:.2f} to {over['high']:.2f})"
        bound = ", a bound" if r["role"] == "bound" else ""
        spread = f"{_figure(r['median'])} ({_figure(r['low'])} to {_figure(r['high'])})"
        rows.append(f"| `{r['contender']}`{bound} | {spread} {r['unit']}{each} | {times} |")
    return "\n".join(rows)


def _limits(run: Mapping[str, Any]) -> Iterable[str]:
    rows = ["| figure | median (low to high) | at most |", "| --- | --- | --- |"]
    for x in run["limits"]:
        if x["median"] is None:
            rows.append(f"| {x['figure']} | failed: {run['error']} | |")
            continue
        most = "–" if x["at_most"] is None else f"{_figure(x['at_most'])} {x['unit']}: {'reached' if x['holds'] else '**missed**'}"
        rows.append(f"| {x['figure']} | {_figure(x['median'])} ({_figure(x['low'])} to {_figure(x['high'])}) {x['unit']} | {most} |")
    yield "\n".join(rows)
    beside = [f"* {name}: {_answered(answer)}" for name, answer in run.get("beside", {}).items()]
    if beside:
        yield "\n".join(beside)


def _answered(answer: Mapping[str, Any]) -> str:
    if "error" in answer:
        return f"cannot: {answer['error']}"
    said = {**answer["figures"], **answer.get("notes", {})}
    return ", ".join(f"{name.replace('_', ' ')} {_figure(value)}" for name, value in said.items())


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
