"""An ingest of files of which one is one sample: compare with the newest version, make shards of what is new, commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from dataplane.errors import NotFound
from dataplane.ingest.badlist import from_commit
from dataplane.ingest.finish import commit, taken_over
from dataplane.ingest.job import Job, Outcome, Tally
from dataplane.ingest.options import Bad, Progress
from dataplane.ingest.plan import Task, Todo, Wanted, assign_classes, compare, describe, gone, in_order, tasks
from dataplane.ingest.pool import do_tasks
from dataplane.ingest.present import Present, load
from dataplane.ingest.resume import take_over
from dataplane.ingest.scratch import scratch
from dataplane.ingest.worker import Context
from dataplane.journal import Finished, Journal
from dataplane.prep.sample import FileKind

__all__ = ["make_files"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one attempt does against the version that was the newest when it began."""

    present: Present
    classes: tuple[str, ...]
    todo: list[Todo]
    taken: list[Finished]
    tasks: list[Task]
    drop: dict[str, bytes]

    @property
    def left(self) -> int:
        """Samples that are still to be made."""
        return sum(len(task.todo) for task in self.tasks)


def make_files(job: Job, tally: Tally) -> Outcome:
    """Attempt until an attempt holds. One fails only where others have taken the ids of our new classes meanwhile: then shards in which
    these ids lie are made again."""
    wanted, unfit = describe(job.listing.entries, job.labels, job.splits)
    with taken_over(job, tally) as journal:
        outcome = None
        while outcome is None:
            plan = _plan(job, tally, wanted, [*job.listing.bad, *unfit])
            if plan.tasks:
                _make_shards(job, plan, tally, journal())
            place = {item.wanted.key: i for i, item in enumerate(plan.todo)}
            finished = sorted(plan.taken, key=lambda item: place[_first_key(item)])
            outcome = commit(job, tally, plan.present, finished=finished, drop=plan.drop, planned=plan.classes)
    return outcome


def _plan(job: Job, tally: Tally, wanted: list[Wanted], unfit: list[Bad]) -> _Plan:
    present = load(job.lake, job.lake.catalog.newest(job.name))
    classes = assign_classes(present.schema, wanted)
    difference = compare(wanted, present.samples, {**_bad_before(job, present), **tally.bad})
    todo = in_order(difference.todo, job.options.order)
    taken, left = take_over(todo, tally.carried, {label: i for i, label in enumerate(classes)})
    drop = _to_drop(job, present, wanted, unfit) if job.options.sync else {}
    tally.bad = {bad.source: bad for bad in (*unfit, *difference.bad)}
    tally.kept = len(wanted) - len(difference.todo) - len(difference.bad)
    tally.resumed = max(tally.resumed, len(todo) - len(left))
    return _Plan(present, classes, todo, taken, tasks(left, job.splits.names, shard_bytes=job.options.shard_bytes), drop)


def _bad_before(job: Job, present: Present) -> dict[str, Bad]:
    """Files that the newest version's ingest found bad. They need no second look while they stay the same, unless the settings changed."""
    if present.version is None or any(present.parameters.get(name) != job.about[name] for name in job.about if name != "source"):
        return {}
    return from_commit(job.lake.objects, present.version.bad)


def _to_drop(job: Job, present: Present, wanted: list[Wanted], unfit: list[Bad]) -> dict[str, bytes]:
    if not job.listing.entries:
        raise NotFound(f"{job.source.url} holds no file that could be read; --sync would drop all of {job.name}, so nothing was done")
    return gone(present.samples, wanted, [bad.source for bad in unfit], job.listing.unread)


def _make_shards(job: Job, plan: _Plan, tally: Tally, journal: Journal) -> None:
    """Do the tasks of a plan. What is finished is journalled at once."""
    taken, total = len(plan.todo) - plan.left, len(plan.todo)
    read = read_bytes = 0

    def tick(samples: int, size: int) -> None:
        nonlocal read, read_bytes
        read, read_bytes = read + samples, read_bytes + size
        job.watch(Progress("reading", taken + read, total, read, read_bytes))

    tick(0, 0)
    options, ids = job.options, {label: i for i, label in enumerate(plan.classes)}
    with scratch() as folder:
        context = Context(
            job.source,
            job.lake.store,
            ids,
            cast(FileKind, job.kind),
            options.check == "decode",
            options.max_pixels,
            options.pictures,
            options.by_format(),
            folder,
            plan.left,
        )
        with do_tasks(context, plan.tasks, tick, workers=options.workers, light=context.light) as results:
            for result in results:
                if result.finished:
                    journal.add(result.finished)
                    tally.carried.append(result.finished)
                    plan.taken.append(result.finished)
                tally.bad.update({bad.source: bad for bad in result.bad})
                tally.kept += result.same
                tally.renamed += result.renamed
                tally.pictures += result.pictures


def _first_key(item: Finished) -> str:
    """The key of a shard's first sample that is wanted."""
    rows = item.shard.rows
    return item.metadata.column("key")[0 if rows is None else int(rows[0])].as_py()  # type: ignore[no-any-return]
