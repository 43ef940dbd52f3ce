"""What becomes of each field of a sample: the transform mapping compiled to things that fill arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dataplane.errors import InvalidArgument
from dataplane.formats.index import ImageInfo
from dataplane.philox import sample_stream
from dataplane.stages import Stage, enter
from loaders.decode import Workspace, decode_int64
from loaders.feed import Draw
from loaders.image import Begun, ImagePipeline
from loaders.source import FieldBytes
from loaders.transforms import Bytes, FieldTransform, ImageTransform, ImageTransforms, Int64, Map
from loaders.workers import hire

__all__ = ["Draw", "Filler", "Integers", "RawBytes", "compile_transform"]

_UNKNOWN = ImageInfo(0, 0, 0)  # the decoder reads the header then


class Filler(Protocol):
    """Turns the bytes of one field into its place in a batch. Immutable; threads bring a workspace each."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the batch's array."""
        ...

    def workspace(self) -> Any:
        """Scratch memory for one thread."""
        ...

    def begin(self, field: FieldBytes, draw: Draw, out: npt.NDArray[Any], workspace: Any, slot: int) -> Any:
        """Do what is done soon to have one sample in `out` [1, *shape]: None where that was all, else what `finish` is to have, while
        `field` lasts and nothing else was begun in this slot. Raises `BadSample`."""
        ...

    def finish(self, begun: Any, workspace: Any) -> None:
        """Do the rest. Raises `BadSample`."""
        ...

    def close(self) -> None:
        """Let go of what it has: processes, where there are any. Idempotent."""
        ...


def compile_transform(transform: Mapping[str, FieldTransform | ImageTransform]) -> dict[str, Filler]:
    """A filler for every field. Raises `InvalidArgument` for what cannot be combined."""
    if not transform:
        raise InvalidArgument('transform names no field; for example {"jpg": [Resize((224, 224))], "cls": Int64()}')
    return {name: _compile(name, ops) for name, ops in transform.items()}


def _compile(name: str, ops: FieldTransform | ImageTransform) -> Filler:
    if isinstance(ops, Int64):
        return Integers()
    if isinstance(ops, Bytes):
        return RawBytes()
    try:
        if isinstance(ops, Map):
            return _Mapped(ops)
        return _Image(ImageTransforms(tuple(ops) if isinstance(ops, Sequence) else (ops,)).done_by(hire))
    except InvalidArgument as error:
        raise InvalidArgument(f"transform of field {name!r}: {error}") from error


class _Image:
    def __init__(self, transforms: ImageTransforms) -> None:
        self._pipeline = ImagePipeline(transforms)
        self.shape = transforms.shape
        self.dtype = transforms.dtype

    def workspace(self) -> Workspace:
        return Workspace()

    def begin(self, field: FieldBytes, draw: Draw, out: npt.NDArray[Any], workspace: Workspace, slot: int) -> Begun:
        image = field.image or _UNKNOWN
        return self._pipeline.begin(
            field.data,
            width=image.width,
            height=image.height,
            orientation=image.orientation,
            segments=image.segments,
            seed=draw.seed,
            component=draw.component,
            epoch=draw.epoch,
            position=draw.position,
            out=out[0],
            workspace=workspace,
            slot=slot,
        )

    def finish(self, begun: Begun, workspace: Workspace) -> None:
        self._pipeline.finish(begun, workspace)

    def close(self) -> None:
        for op in self._pipeline.transforms:
            if isinstance(op, Map) and op.doer is not None:
                op.doer.close()


class _Mapped:
    def __init__(self, op: Map) -> None:
        if op.shape is None or op.dtype is None:
            raise InvalidArgument(f"{op} must announce what fn makes of the bytes: give it shape=(…) and dtype=…")
        self.shape: tuple[int, ...] = op.shape
        self.dtype: np.dtype[Any] = op.dtype
        self._random = op.random
        self._doer = hire(op, op.shape)

    def workspace(self) -> None:
        return None

    def begin(self, field: FieldBytes, draw: Draw, out: npt.NDArray[Any], workspace: None, slot: int) -> tuple[Any, int, Any]:
        stream = sample_stream(draw.seed, draw.component, draw.epoch, draw.position, 0) if self._random else 0
        return field.data, stream, out.reshape(self.shape)

    def finish(self, begun: tuple[Any, int, Any], workspace: None) -> None:
        enter(Stage.TRANSFORM)
        self._doer.do(*begun)

    def close(self) -> None:
        self._doer.close()


class Integers:
    """Decimal numbers in text."""

    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.int64)

    def workspace(self) -> None:
        return None

    def begin(self, field: FieldBytes, draw: Draw, out: npt.NDArray[Any], workspace: None, slot: int) -> None:
        out[0] = decode_int64(field.data)

    def finish(self, begun: None, workspace: None) -> None:
        """There is no rest."""

    def close(self) -> None:
        """There is nothing to close."""


class RawBytes:
    """Bytes as they are, into a place of a `RaggedPlaces`."""

    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.uint8)

    def workspace(self) -> None:
        return None

    def begin(self, field: FieldBytes, draw: Draw, out: Any, workspace: None, slot: int) -> None:
        out.put(field.data)

    def finish(self, begun: None, workspace: None) -> None:
        """There is no rest."""

    def close(self) -> None:
        """There is nothing to close."""
