"""Files become samples of a shard: looked at or changed one by one, or taken as they lie in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dataplane.errors import BadSample, InvalidArgument
from dataplane.formats.index import ImageInfo
from dataplane.formats.parquet_values import size_of
from dataplane.group import CLASS_FIELD, Group
from dataplane.ingest.gathered import Gathered
from dataplane.ingest.options import Bad, Pictures
from dataplane.ingest.plan import Todo
from dataplane.ingest.reading import Outcome
from dataplane.prep.sample import misnamed, prepare
from dataplane.prep.stored import Stored

if TYPE_CHECKING:
    from dataplane.ingest.worker import Context

__all__ = ["Taker"]


@dataclass(slots=True)
class Taker:
    """Puts samples into `group`, and says what came of them. Not thread-safe."""

    context: Context
    group: Group
    gathered: Gathered = field(default_factory=Gathered)

    def take(self, todo: Todo, outcome: Outcome) -> None:
        """Append the sample that a file becomes, or say why not."""
        wanted, gathered = todo.wanted, self.gathered
        if isinstance(outcome, BadSample):
            gathered.bad.append(Bad(wanted.entry.path, str(outcome)))
            return
        if outcome.digest == todo.known:
            gathered.same += 1
            return
        class_id = self._class_id(todo)
        try:
            prepared = prepare(
                self.context.kind,
                wanted.entry.path,
                outcome.data,
                decode=self.context.decode,
                max_pixels=self.context.max_pixels,
                pictures=self.context.pictures,
            )
            fields = prepared.fields if class_id < 0 else {**prepared.fields, CLASS_FIELD: str(class_id).encode()}
            self.group.add(wanted.key, fields, prepared.images)
        except (BadSample, InvalidArgument) as error:
            gathered.bad.append(Bad(wanted.entry.path, str(error), outcome.etag))
            return
        gathered.renamed += prepared.renamed
        if prepared.stored is not None:
            gathered.pictures += _told(prepared.stored, len(outcome.data))
        stored = sum(map(size_of, fields.values()))
        gathered.sample(todo, outcome.etag, outcome.digest, class_id=class_id, size=prepared.size, stored=stored)

    def place(
        self, todo: Todo, name: str, buffer: npt.NDArray[np.uint8], at: int, *, etag: str, digest: bytes, image: ImageInfo | None
    ) -> None:
        """`take` of a file whose bytes lie in `buffer` at `at` and become the field `name` as they are. `image`: what the header of a
        picture says. The buffer is the group's until it is flushed."""
        wanted, gathered, size = todo.wanted, self.gathered, todo.wanted.entry.size
        if digest == todo.known:
            gathered.same += 1
            return
        class_id = self._class_id(todo)
        before = None if class_id < 0 else (CLASS_FIELD, str(class_id).encode())
        try:
            self.group.place(wanted.key, name, buffer, at, size, image=image, before=before)
        except InvalidArgument as error:
            gathered.bad.append(Bad(wanted.entry.path, str(error), etag))
            return
        gathered.renamed += image is not None and misnamed(wanted.entry.path, name)
        stored = size + len(before[1]) if before else size
        gathered.sample(todo, etag, digest, class_id=class_id, size=image.upright if image else (None, None), stored=stored)

    def _class_id(self, todo: Todo) -> int:
        return -1 if todo.wanted.label is None else self.context.class_ids[todo.wanted.label]


def _told(made: Stored, size: int) -> Pictures:
    """What was done to one picture of `size` bytes."""
    changed = made.indexed or made.encoded
    left = {made.left: 1} if made.left else {}
    return Pictures(made.indexed, made.encoded, left, *((size, len(made.data)) if changed else ()))
