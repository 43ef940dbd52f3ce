"""The command line of the benchmarks: `list`, `run` and `report`.

With `--json` one document goes to standard output and nothing else; progress always goes to standard error. Exit codes: 0 done; 1 nothing
could be measured; 2 wrong usage; 3 done, but a contender failed and is listed. A target that is missed is told, and is no failure of a run.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import harness, limits, machine, pages, report
from benchmarks.datasets import NoPhotographs
from benchmarks.tasks import TASKS, CannotPrepare, Contender, LimitTask, Prepared, Request, Task, load_task

RESULTS = harness.PROJECT / "benchmarks" / "results"
PAGE = harness.PROJECT / "docs" / "benchmarks.md"
FAILED, SOME_FAILED = 1, 3
BUSY = 0.25

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure this project beside what users would pick instead: the same bytes, output and antialiasing, in turns, output verified.",
)
err = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else there.")]


@app.command("list")
def list_tasks(as_json: AsJson = False) -> None:
    """The tasks, and the contenders or the limits of each."""
    tasks = [load_task(name) for name in TASKS]
    if as_json:
        typer.echo(json.dumps([_listed(task) for task in tasks]))
        return
    console = Console()
    for task in tasks:
        if isinstance(task, LimitTask):
            shown = Table("figure", "at most", "unit", "what", title=f"{task.name}: {task.summary}")
            for limit in task.limits:
                shown.add_row(limit.name, "–" if limit.at_most is None else f"{limit.at_most:,g}", limit.unit, limit.summary)
            console.print(shown)
            continue
        shown = Table("contender", "role", "unit", "what", title=f"{task.name}: {task.summary}")
        for contender in task.contenders:
            shown.add_row(contender.name, contender.role, contender.unit, contender.summary)
        console.print(shown)
    console.print("Next: python -m benchmarks run jpeg --data FOLDER")


@app.command("run")
def run_task(
    task_name: Annotated[str, typer.Argument(metavar="TASK", help=f"What to measure: {', '.join(TASKS)}.")],
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="A folder of JPEG photographs. Without it, photographs are made.", show_default=False
        ),
    ] = None,
    peers: Annotated[str, typer.Option(metavar="all|A,B", help="Who takes part: names from `list`, separated by commas.")] = "all",
    threads: Annotated[
        int, typer.Option(min=1, help="Threads, or worker processes, of each contender. A task that is defined with one has one.")
    ] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; one more comes first and is dropped.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long a round takes; it is made of whole epochs.")] = 5.0,
    samples: Annotated[
        int | None,
        typer.Option(
            min=256,
            help="Samples in an epoch, or rows: photographs are repeated under other names to make as many. Default: the task's.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few samples and one short round: that all of it works. The figures mean nothing.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which a contender that does not answer has failed.")] = 300.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the document, the plot and the logs. Default: one in the cache's runs/.", show_default=False),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder that keeps inputs, environments and runs.")] = Path(".bench"),
    save: Annotated[bool, typer.Option("--save", help="Keep the document and the plot in benchmarks/results/ too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a task's contenders in turns and report the median, lowest and highest rate of each; or its figures against limits.

    About eight minutes for all contenders of `jpeg` on two cores, less than six for each of the others. Have nothing else running: figures
    of one run are comparable with each other, and with those of another run only on an idle machine.
    """
    task = _task(task_name)
    contenders = _contenders(task, peers)
    started = datetime.now(UTC)
    cache = _made(cache)
    folder = out or cache / "runs" / f"{started:%Y%m%dT%H%M%S}-{task.name}"
    folder.mkdir(parents=True, exist_ok=True)
    schedule = harness.Schedule(rounds=1 if quick else rounds, seconds=0.1 if quick else seconds, timeout_seconds=timeout)
    wanted = samples or (task.quick if quick else task.samples)
    about: dict[str, Any] = {"schedule": schedule, "hardware": _hardware(cache), "versions": machine.versions(), "started": started}
    threads = threads if isinstance(task, LimitTask) else task.threads or threads
    prepared = _prepared(task, Request(data=data, cache=cache / "data", samples=wanted, threads=threads))
    try:
        if isinstance(task, LimitTask):
            values = limits.run(task, prepared.job, schedule, logs=folder, environments=cache / "envs", tell=_tell)
            document = report.limit_document(values, task=task, data=prepared.data, **about)
        else:
            outcomes = harness.run(contenders, prepared.job, schedule, logs=folder, environments=cache / "envs", tell=_tell)
            settings = {"threads": threads, "batch": prepared.job["batch"]}
            document = report.document(outcomes, task=task, settings=settings, data=prepared.data, **about)
    finally:
        prepared.close()
    kept = _keep(document, folder, save=save)
    if as_json:
        typer.echo(json.dumps(document))
    else:
        Console().print(report.limit_table(document) if isinstance(task, LimitTask) else report.table(document))
        Console(soft_wrap=True, highlight=False).print(f"Written: {', '.join(map(str, kept))}; logs of the contenders beside the first.")
    raise typer.Exit(_exit_code(document))


@app.command("report")
def report_runs(
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Put it into docs/benchmarks.md, and the plots beside, instead of printing it.")
    ] = False,
) -> None:
    """The newest kept run of each task as tables in Markdown: what stands in docs/benchmarks.md.

    Example: python -m benchmarks run jpeg --save && python -m benchmarks report --write
    """
    runs = pages.newest(RESULTS, TASKS)
    made = pages.page(runs, images="images/benchmarks")
    if not write:
        typer.echo(made)
        return
    images = PAGE.parent / "images" / "benchmarks"
    images.mkdir(parents=True, exist_ok=True)
    for path, run in runs:
        if path.with_suffix(".svg").exists():
            shutil.copyfile(path.with_suffix(".svg"), images / f"{run['task']}.svg")
    PAGE.write_text(pages.replaced(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    _tell(f"{PAGE}: {len(runs)} runs")


def _prepared(task: Task | LimitTask, request: Request) -> Prepared:
    try:
        return task.prepare(request)
    except NoPhotographs as error:
        raise typer.BadParameter(str(error), param_hint="--data") from error
    except CannotPrepare as error:
        _tell(str(error))
        raise typer.Exit(FAILED) from error


def _listed(task: Task | LimitTask) -> dict[str, Any]:
    if isinstance(task, LimitTask):
        figures = [{"figure": x.name, "unit": x.unit, "at_most": x.at_most, "summary": x.summary} for x in task.limits]
        return {"task": task.name, "summary": task.summary, "figures": figures}
    contenders = [{"contender": c.name, "role": c.role, "unit": c.unit, "summary": c.summary} for c in task.contenders]
    return {"task": task.name, "summary": task.summary, "contenders": contenders}


def _task(name: str) -> Task | LimitTask:
    if name not in TASKS:
        raise typer.BadParameter(f"{name!r} is no task; tasks are {', '.join(TASKS)}", param_hint="TASK")
    return load_task(name)


def _contenders(task: Task | LimitTask, peers: str) -> list[Contender]:
    if isinstance(task, LimitTask):
        if peers != "all":
            raise typer.BadParameter(f"{task.name} has no contenders, only limits", param_hint="--peers")
        return []
    known = {contender.name: contender for contender in task.contenders}
    names = list(known) if peers == "all" else list(dict.fromkeys(name.strip() for name in peers.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(map(repr, unknown))}: {task.name} has {', '.join(known)}, or all", param_hint="--peers")
    return [known[name] for name in names]


def _made(cache: Path) -> Path:
    """The cache folder; a new one is hidden from git."""
    if not cache.exists():
        cache.mkdir(parents=True)
        (cache / ".gitignore").write_text("*\n", encoding="utf-8")
    return cache.resolve()


def _hardware(folder: Path) -> dict[str, Any]:
    found = machine.hardware(folder)
    if found["busy"] > BUSY:
        _tell(f"note: the machine is busy (load {found['busy']} for each core); do not draw conclusions from this run")
    return found


def _tell(line: str) -> None:
    err.print(line, markup=False)


def _keep(document: dict[str, Any], folder: Path, *, save: bool) -> list[Path]:
    """Write the document and the plot into `folder`; with `save`, copy them to benchmarks/results/."""
    result = folder / "result.json"
    result.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    written = [result]
    if "limits" not in document:
        try:
            report.plot(document, folder / "plot.svg")
            written.append(folder / "plot.svg")
        except ImportError:
            _tell("no plot: matplotlib is not installed (it comes with the project's `bench` extra)")
    if save:
        RESULTS.mkdir(exist_ok=True)
        stem = f"{document['started'][:19].replace(':', '').replace('-', '')}-{document['task']}"
        written += [Path(shutil.copyfile(path, RESULTS / f"{stem}{path.suffix}")) for path in list(written)]
    return written


def _exit_code(document: dict[str, Any]) -> int:
    if "limits" in document:
        return 0 if document["error"] is None else FAILED
    failed = [result for result in document["results"] if result["error"] is not None]
    if not failed:
        return 0
    return FAILED if len(failed) == len(document["results"]) else SOME_FAILED
