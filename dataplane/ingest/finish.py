"""The two ends of an ingest: take over what a killed run had finished, and commit what is finished now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from dataplane.catalog import Change, Version
from dataplane.errors import BadSources, CommitConflict
from dataplane.ingest.badlist import to_commit
from dataplane.ingest.commit import Edit, agreed_classes, edit, fields_of, new_parts
from dataplane.ingest.job import Job, Outcome, Tally
from dataplane.ingest.options import Bad, Progress
from dataplane.ingest.present import Present, load
from dataplane.ingest.resume import is_there
from dataplane.journal import Finished, Journal, claim, leftovers, remove
from dataplane.parts import merged, split_counts
from dataplane.schema import Schema

__all__ = ["commit", "taken_over"]


@contextmanager
def taken_over(job: Job, tally: Tally) -> Iterator[Callable[[], Journal]]:
    """Round the work of an ingest. What dead writers of the same work had finished is in `tally.carried`; the journal of this one is
    begun when it is first asked for. All of them are removed at the end, unless the work fails."""
    store, objects = job.lake.store, job.lake.objects
    old = [leftover for leftover in leftovers(store, job.name) if leftover.about == job.about]
    for leftover in old:
        if not leftover.finished:
            remove(store, leftover.id)
    tally.carried = [item for leftover in old if claim(store, leftover.id) for item in leftover.finished if is_there(objects, item)]
    with ExitStack() as stack:
        begun: list[Journal] = []

        def journal() -> Journal:
            if not begun:
                begun.append(stack.enter_context(Journal(store, job.name, about=job.about)))
            return begun[0]

        yield journal
        for mine in begun:
            mine.finish()
    for leftover in old:
        remove(store, leftover.id)


def commit(
    job: Job, tally: Tally, present: Present, *, finished: Sequence[Finished], drop: Mapping[str, bytes], planned: Sequence[str] | None
) -> Outcome | None:
    """Commit finished shards and what is to go. `planned` are the class names whose positions are the ids in the shards, None where no ids
    are in them; the outcome is None where others have given these ids to other classes meanwhile."""
    bad = tally.listed
    if bad and job.options.strict:
        raise BadSources(f"{len(bad)} of the files in {job.source.url} are bad, and --strict allows none; nothing was committed", bad)
    state, change, clash = present, Edit(), False

    def make(newest: Version | None) -> Change | None:
        nonlocal state, change, clash
        if newest is None and present.version is not None:
            raise CommitConflict(f"{job.name} was removed while this ingest was at work; to begin it anew, run the same command again")
        state = present if newest is None or newest.number == present.number else load(job.lake, newest)
        change = edit(state, finished, drop)
        classes = state.schema.classes if planned is None else agreed_classes(state.schema.classes, planned, change.labels)
        clash = classes is None
        return None if classes is None or change.nothing else _body(job, state, change, classes, bad)

    version = None
    if finished or drop:
        job.watch(Progress("committing"))
        version = job.lake.catalog.commit(job.name, make)
    if clash:
        return None
    newest = version or state.version
    if newest is None:
        raise BadSources(f"none of the {len(bad)} files in {job.source.url} can be a sample; nothing was committed", bad)
    return Outcome(newest, change, version is not None)


def _body(job: Job, state: Present, change: Edit, classes: tuple[str, ...], bad: Sequence[Bad]) -> Change:
    objects = job.lake.objects
    schema = Schema(state.schema.merged(fields_of(change.finished), ()).fields, classes)
    parts = new_parts(objects, state, change)
    return Change(
        "ingest",
        job.parameters,
        schema,
        tuple(merged(objects, [part for part, _ in parts])),
        split_counts(parts),
        to_commit(objects, bad),
        counts={"added": change.added, "replaced": change.replaced, "dropped": change.dropped},
    )
