"""Save and restore the checkpoints of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.checkpoint.record import Checkpoint, Evaluation, Progress, Trained, checkpoint_body, evaluation_body
from dataplane.errors import CommitConflict, CorruptObject, NotFound
from dataplane.lake import Lake
from dataplane.log import Entry
from dataplane.refs import Digest

__all__ = ["Checkpoints", "Restored"]

_log = logging.getLogger(__name__)
_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint whose every part was read and agrees with its digest.

    `ranks`: the bytes of the parts that each rank wrote. `damaged`: what is wrong with newer checkpoints that were passed over.
    """

    checkpoint: Checkpoint
    ranks: tuple[Mapping[str, memoryview], ...]
    damaged: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints of one run, oldest first in its log. Reading is thread-safe.

    A run has one writer at a time. This object remembers the newest checkpoint it has restored or saved, and a commit fails with
    `CommitConflict` when a newer one is there: another process trains the same run. A new object expects a run without checkpoints.

    A checkpoint appears whole or not at all: its parts are durable objects before the one commit that names them is created. A writer
    that is killed leaves at most parts that nothing names.
    """

    def __init__(self, lake: Lake, run: str) -> None:
        self.lake = lake
        self.run = run
        self.log = lake.log("runs", run)
        self._newest = 0  # the newest checkpoint known to this writer
        self._parent: int | None = None  # the one it went on from: older than the newest where that is damaged

    # ------------------------------------------------------------------ saving

    def write(self, parts: Mapping[str, bytes]) -> dict[str, Digest]:
        """Store the parts of one rank, durably. Every rank may call this at once; the names go to `commit` on one of them."""
        return {name: self.lake.objects.put(data, suffix=_SUFFIX) for name, data in parts.items()}

    def commit(self, ranks: Sequence[Mapping[str, Digest]], progress: Progress) -> Checkpoint:
        """Make the written parts of all ranks the run's newest checkpoint: one call, by one rank, after all of them have written.

        Raises `CommitConflict` when another writer has committed, and `CorruptObject` or `NotFound` where a part is not in the lake.
        """
        for ref in {ref for parts in ranks for ref in parts.values()}:
            self._check_there(ref)
            self.lake.objects.rely_on([ref])

        def body(tip: Entry | None) -> dict[str, Any]:
            newest = self._newest_checkpoint(tip.number if tip else 0)
            if newest > self._newest:
                raise CommitConflict(
                    f"run {self.run} has a checkpoint {newest} that this process has not made; "
                    "let one process train a run: resume it with --resume, or start another with --run NAME"
                )
            return checkpoint_body(progress, ranks, self._parent)

        entry = self.log.append(body)
        if entry is None:
            raise AssertionError("a commit with a body returns its entry")
        self._newest = self._parent = entry.number
        return Checkpoint.from_entry(self.run, entry)

    def save(self, parts: Mapping[str, bytes], progress: Progress) -> Checkpoint:
        """`write` and `commit`, for a run of one process or of equal ranks."""
        return self.commit([self.write(parts)], progress)

    def check_appendable(self) -> None:
        """Raise `CorruptObject` where no checkpoint could be saved, since the newest entry of the log is damaged: before work is lost."""
        try:
            self.log.last()
        except CorruptObject as error:
            raise CorruptObject(f"{error}; or move it out of the lake to go on from the checkpoint before it") from error

    # ------------------------------------------------------------------ restoring

    def restore(self, number: int | None = None) -> Restored:
        """Checkpoint `number` with all its parts, or the newest good one.

        Without a number, a damaged checkpoint is passed over with a warning that names what is damaged, and the one before is tried.
        Raises `NotFound` where the run has no such checkpoint, `CorruptObject` where the one asked for, or every one, is damaged.
        """
        if number is not None:
            restored = self._restored(self._read(number))
            self._parent = number
            return restored
        newest = self._newest_checkpoint(self.log.newest())
        damaged: list[str] = []
        for at in self._numbers(newest):
            try:
                restored = self._restored(self._read(at), tuple(damaged))
            except (CorruptObject, NotFound) as error:
                damaged.append(f"checkpoint {at} of {self.run} cannot be restored: {error}")
                _log.warning("%s; trying the one before", damaged[-1])
                continue
            self._newest, self._parent = newest, restored.checkpoint.number
            return restored
        if damaged:
            raise CorruptObject(f"run {self.run} has no good checkpoint left: {'; '.join(damaged)}")
        raise NotFound(f"run {self.run} has no checkpoints; runs that have entries: {', '.join(self.lake.names('runs')) or 'none yet'}")

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose commit can be read, or None. Its parts are not looked at."""
        for number in self._numbers(self.log.newest()):
            try:
                return self._read(number)
            except CorruptObject as error:
                _log.warning("checkpoint %d of %s cannot be read: %s", number, self.run, error)
        return None

    def history(self) -> list[Checkpoint]:
        """All checkpoints, oldest first. Raises `CorruptObject` where a commit is damaged."""
        return [Checkpoint.from_entry(self.run, entry) for entry in self.log if entry.body["type"] == "checkpoint"]

    # ------------------------------------------------------------------ evaluations

    def evaluated(self, checkpoint: int, dataset: Trained, split: str, samples: int, metrics: Mapping[str, float]) -> Evaluation:
        """Write what a checkpoint scored into the run's log. Safe while the run is training."""
        entry = self.log.append(lambda _: evaluation_body(checkpoint, dataset, split, samples, metrics))
        if entry is None:
            raise AssertionError("a commit with a body returns its entry")
        return Evaluation.from_entry(entry)

    def evaluations(self) -> list[Evaluation]:
        """All evaluations, oldest first."""
        return [Evaluation.from_entry(entry) for entry in self.log if entry.body["type"] == "evaluation"]

    # ------------------------------------------------------------------ inside

    def _restored(self, checkpoint: Checkpoint, damaged: tuple[str, ...] = ()) -> Restored:
        ranks = tuple({name: self.lake.objects.get(ref) for name, ref in parts.items()} for parts in checkpoint.ranks)
        return Restored(checkpoint, ranks, damaged)

    def _read(self, number: int) -> Checkpoint:
        if not 1 <= number <= self.log.newest():
            raise NotFound(f"run {self.run} has no entry {number}; it has 1 to {self.log.newest()}")
        entry = self.log.read(number)
        if entry.body["type"] != "checkpoint":
            raise NotFound(f"entry {number} of run {self.run} is an {entry.body['type']}, not a checkpoint")
        return Checkpoint.from_entry(self.run, entry)

    def _numbers(self, newest: int) -> Iterator[int]:
        """Numbers of checkpoints, newest first; a commit that cannot be read counts as one."""
        for number in range(newest, 0, -1):
            if self._is_checkpoint(number):
                yield number

    def _newest_checkpoint(self, newest: int) -> int:
        return next(self._numbers(newest), 0)

    def _is_checkpoint(self, number: int) -> bool:
        try:
            return bool(self.log.read(number).body["type"] == "checkpoint")
        except CorruptObject:
            return True

    def _check_there(self, ref: Digest) -> None:
        size = self.lake.store.head(ref.path)["size"]
        if size != ref.size:
            raise CorruptObject(f"{self.lake.url}/{ref.path} has {size} bytes instead of {ref.size}; save the checkpoint again")
