"""Encoded images into their slots of a batch: decoded, turned upright, and transformed as the plan says.

Where the transforms only choose pixels and scale values, one pass goes from the decoded image to the slot, in float32: results differ from
Pillow's, which rounds to 8 bits between its two passes, by less than one level of 255. Frames and steps work on levels, so there the
resampled image is rounded once, to a canvas, and everything after it is done as Pillow does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import InvalidArgument
from dataplane.stages import Stage, enter
from loaders.canvas import erase, framed, stepped
from loaders.decode import Data, Part, Workspace, decode_part, part_of, stored_shape
from loaders.kernels import colour
from loaders.kernels.resample import resample
from loaders.kernels.taps import CUBIC, Axis
from loaders.orientation import known, oriented, stored_box, swaps_sides
from loaders.transforms import Box, ImagePlan, ImageTransform, ImageTransforms, Normalize

__all__ = ["Begun", "ImagePipeline"]

Levels: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Scale and bias of each channel."""

_ROUNDED: Final[Levels] = np.ones(3, np.float32), np.full(3, 0.5, np.float32)  # a truncation to uint8 then rounds


class Begun(NamedTuple):
    """An image that is ready to be decoded: what part of it, what becomes of that, and where it goes. `axes` are those of the plan, from
    the first pixel on that is resampled; `box` of the part is turned upright before, if there is one."""

    part: Part
    plan: ImagePlan
    axes: tuple[Axis, Axis]
    box: Box | None
    orientation: int
    out: NDArray[Any]


class ImagePipeline:
    """Decodes and transforms images into their slots of a batch, as `transforms` describe it.

    Immutable after construction, and thread-safe as long as each thread brings its own `Workspace`.
    """

    def __init__(self, transforms: ImageTransforms | Sequence[ImageTransform]) -> None:
        self.transforms = transforms if isinstance(transforms, ImageTransforms) else ImageTransforms(tuple(transforms))
        self.shape = self.transforms.shape
        self.dtype = self.transforms.dtype
        self._planar = (self.transforms.channels, *self.transforms.size)
        self._working = np.dtype(np.uint8 if self.dtype == np.uint8 else np.float32)
        self._rounds = self.transforms.rounds
        self._interleaved = self.transforms.layout == "HWC" and not self._rounds
        self._direct = self._working == self.dtype and (self._interleaved or self.transforms.layout == "CHW")
        self._levels = _levels(self.transforms)

    def run(
        self,
        data: Data,
        *,
        width: int,
        height: int,
        orientation: int | None,
        seed: int,
        component: int,
        epoch: int,
        position: int,
        out: NDArray[Any],
        workspace: Workspace,
        segments: Data = b"",
    ) -> None:
        """Write the image of `data` to `out`: C-contiguous, of this pipeline's `shape` and `dtype`; a 16-byte aligned one is faster.

        `width`, `height` (as stored) and EXIF `orientation` are the index's; where one is 0 or None, all are read from the header. With the
        packed `segments` of a JPEG, as the index has them, only those that the plan looks at are decoded; the result is the same, bit for
        bit. `data` is changed during the call if it is writable, and restored: nobody else may read it meanwhile. The random parameters are
        those of `position` in `epoch` of `component` under `seed`. A pure function of its arguments. Raises `BadSample`, or `CorruptObject`
        if the segments are not those of `data`; `out` is undefined then.
        """
        draw = {"seed": seed, "component": component, "epoch": epoch, "position": position}
        begun = self.begin(
            data, width=width, height=height, orientation=orientation, segments=segments, **draw, out=out, workspace=workspace, slot=0
        )
        self.finish(begun, workspace)

    def begin(
        self,
        data: Data,
        *,
        width: int,
        height: int,
        orientation: int | None,
        segments: Data,
        seed: int,
        component: int,
        epoch: int,
        position: int,
        out: NDArray[Any],
        workspace: Workspace,
        slot: int,
    ) -> Begun:
        """The first half of `run`, which is done soon: images that are begun together, each in a slot of the workspace of its own, and then
        finished together, take less time than one after the other."""
        if out.dtype != self.dtype or out.shape != self.shape or not out.flags.c_contiguous:
            raise InvalidArgument(
                f"out must be C-contiguous {self.dtype} {self.shape}; it is {out.dtype} {out.shape}, strides {out.strides}"
            )
        if not (width and height and orientation):
            height, width, orientation = stored_shape(data)
        orientation = known(orientation)
        upright = (width, height) if swaps_sides(orientation) else (height, width)
        plan = self.transforms.plan(*upright, seed=seed, component=component, epoch=epoch, position=position)
        rows, columns = plan.axes
        reach = plan.reach
        box = reach if orientation == 1 else stored_box(reach, orientation, upright)
        part = part_of(data, height=height, width=width, box=box, segments=segments, workspace=workspace, slot=slot)
        y, x = (part.y, part.x) if orientation == 1 else (reach.y, reach.x)
        axes = (rows[0] - y, *rows[1:]), (columns[0] - x, *columns[1:])
        turned = None if orientation == 1 else Box(box.y - part.y, box.x - part.x, box.height, box.width)
        return Begun(part, plan, axes, turned, orientation, out)

    def finish(self, begun: Begun, workspace: Workspace) -> None:
        """The second half of `run`."""
        part, plan, axes, box, orientation, out = begun
        pixels = decode_part(part, workspace)
        enter(Stage.TRANSFORM)
        if box is not None:
            pixels = oriented(pixels[box.y : box.y + box.height, box.x : box.x + box.width], orientation)
        result = out if self._direct else np.empty(self.shape if self._interleaved else self._planar, self._working)
        if self._rounds:
            self._scale(_canvas(pixels, axes, plan), result)
        else:
            _resample(pixels, axes, (plan.filter, plan.flip_rows, plan.flip, self._interleaved), self._levels, result)
        if plan.erasure is not None:
            erase(result.transpose(2, 0, 1) if self._interleaved else result, plan.erasure)
        if not self._direct:
            out[...] = result if self._interleaved or self.transforms.layout == "CHW" else result.transpose(1, 2, 0)

    def _scale(self, canvas: NDArray[np.uint8], result: NDArray[Any]) -> None:
        levels = canvas[: result.shape[0]]
        if result.dtype == np.uint8:
            result[...] = levels
        else:
            colour.scale(levels, *self._levels, result)


def _resample(
    pixels: NDArray[np.uint8], axes: tuple[Axis, Axis], how: tuple[int, bool, bool, bool], levels: Levels, out: NDArray[Any]
) -> None:
    """The kernel, with what a cubic filter overshoots cut at the levels 0 and 255."""
    kind, _, _, interleaved = how
    if kind != CUBIC:
        resample(pixels, axes, how, levels, out)
        return
    rough = np.empty(out.shape, np.float32)
    resample(pixels, axes, how, levels, rough)
    scale, bias = (level if interleaved else level[:, None, None] for level in levels)
    np.clip(rough, bias, bias + 255 * scale, out=out, casting="unsafe")


def _canvas(pixels: NDArray[np.uint8], axes: tuple[Axis, Axis], plan: ImagePlan) -> NDArray[np.uint8]:
    """What a plan makes of decoded pixels before its levels are scaled: planar uint8 [3, height, width]."""
    canvas = np.empty((3, *plan.window[2:]), np.uint8)
    if plan.frame is None:
        _resample(pixels, axes, (plan.filter, plan.flip_rows, plan.flip, False), _ROUNDED, canvas)
    else:
        _resample(pixels, axes, (plan.filter, False, False, False), _ROUNDED, canvas)
        canvas = framed(canvas, plan.frame, flip_rows=plan.flip_rows, flip_columns=plan.flip)
    return stepped(canvas, plan.steps)


def _levels(transforms: ImageTransforms) -> Levels:
    """Scale and bias of each channel, from levels 0 … 255 to what the transforms ask for."""
    if transforms.dtype == np.uint8:
        return _ROUNDED
    mean, std = np.zeros(transforms.channels), np.ones(transforms.channels)
    for op in transforms:
        if isinstance(op, Normalize):
            mean, std = np.array(op.mean), np.array(op.std)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
