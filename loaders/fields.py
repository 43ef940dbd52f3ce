"""What becomes of each field of a sample: the transform mapping compiled to things that fill arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dataplane.errors import InvalidArgument
from dataplane.formats.index import ImageInfo
from loaders.decode import Workspace, decode_int64
from loaders.image import ImagePipeline
from loaders.source import FieldBytes
from loaders.transforms import FieldTransform, ImageTransform, Int64

__all__ = ["Draw", "Filler", "compile_transform"]

_UNKNOWN = ImageInfo(0, 0, 0)  # the decoder reads the header then


class Draw(NamedTuple):
    """What a sample's random parameters are a function of, besides the op's ordinal."""

    seed: int
    component: int
    epoch: int
    position: int


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

    def fill(self, field: FieldBytes, draw: Draw, out: npt.NDArray[Any], workspace: Any) -> None:
        """Write one sample to `out` [1, *shape]. Raises `BadSample`."""
        ...


def compile_transform(transform: Mapping[str, FieldTransform | ImageTransform]) -> dict[str, Filler]:
    """A filler for every field. Raises `InvalidArgument` for what cannot be combined."""
    if not transform:
        raise InvalidArgument('transform names no field; for example {"jpg": [Resize((224, 224))], "cls": Int64()}')
    return {name: _compile(name, ops) for name, ops in transform.items()}


def _compile(name: str, ops: FieldTransform | ImageTransform) -> Filler:
    if isinstance(ops, Int64):
        return _Integer()
    try:
        return _Image(ImagePipeline(list(ops) if isinstance(ops, Sequence) else [ops]))
    except InvalidArgument as error:
        raise InvalidArgument(f"transform of field {name!r}: {error}") from error


class _Image:
    def __init__(self, pipeline: ImagePipeline) -> None:
        self._pipeline = pipeline
        self.shape = pipeline.shape
        self.dtype = pipeline.dtype

    def workspace(self) -> Workspace:
        return Workspace()

    def fill(self, field: FieldBytes, draw: Draw, out: npt.NDArray[Any], workspace: Workspace) -> None:
        image = field.image or _UNKNOWN
        self._pipeline.run(
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
        )


class _Integer:
    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.int64)

    def workspace(self) -> None:
        return None

    def fill(self, field: FieldBytes, draw: Draw, out: npt.NDArray[Any], workspace: None) -> None:
        out[0] = decode_int64(field.data)
