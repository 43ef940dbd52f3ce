"""SPDL: FFmpeg decodes, crops, resizes and mirrors in the threads of one process; batches are normalised in one of them.

Its scaler widens its filter for a reduction, as antialiasing does. Boxes begin and end at even pixels, where subsampled chroma can be cut:
then the crop comes before the conversion of colours, which takes half of the whole if it comes first.
"""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import spdl.io
import spdl.pipeline
import torch
from numpy.typing import NDArray

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.jpeg import MEAN, SIZE, STD, Box, Job, draw_box, some_sources

io: Any = spdl.io
pipeline: Any = spdl.pipeline

BUFFERED = 3
SCALER = "bilinear+accurate_rnd+full_chroma_int"
_OFFSET = 255 * torch.tensor(MEAN).view(1, 3, 1, 1)
_FACTOR = 1 / (255 * torch.tensor(STD).view(1, 3, 1, 1))


class SpdlBatches:
    packages = ("spdl-core", "spdl-io", "torch")

    def __init__(self, job: Job) -> None:
        self.setup = f"Pipeline of {job.threads} threads, FFmpeg's decoder and filters for each photograph, normalised by the batch"
        torch.set_num_threads(1)
        self.job = job
        self.epochs = 0
        self.samples = [(path, int(path.parent.name)) for path in sorted(Path(job.tree).rglob("*.jpg"))]
        self.local = threading.local()
        self.seeds = np.random.SeedSequence(job.seed)

    def epoch(self) -> Iterator[Batch]:
        order = np.random.default_rng((self.job.seed, self.epochs)).permutation(len(self.samples))
        self.epochs += 1
        built = (
            pipeline.PipelineBuilder()
            .add_source([self.samples[i] for i in order])
            .pipe(self._decode, concurrency=self.job.threads)
            .aggregate(self.job.batch)
            .pipe(_collate)
            .add_sink(BUFFERED)
            .build(num_threads=self.job.threads)
        )
        with built.auto_stop():
            for images, labels in built:
                yield Batch(images.numpy(), labels)

    def cut(self) -> Iterator[tuple[Path, Box, NDArray[Any]]]:
        for path in some_sources(self.job):
            frames, box = _cut(path, np.random.default_rng(self.job.seed))
            yield path, box, _normalised([frames])[0].numpy()

    def close(self) -> None:
        pass

    def _decode(self, sample: tuple[Path, int]) -> tuple[Any, int]:
        return _cut(sample[0], self._rng())[0], sample[1]

    def _rng(self) -> np.random.Generator:
        """A generator of this thread's own."""
        if not hasattr(self.local, "rng"):
            (seed,) = self.seeds.spawn(1)
            self.local.rng = np.random.default_rng(seed)
        rng: np.random.Generator = self.local.rng
        return rng


def _cut(path: Path, rng: np.random.Generator) -> tuple[Any, Box]:
    packets = io.demux_image(str(path))
    box = _even(draw_box(rng, packets.width, packets.height))
    filters = (
        f"crop={box.width}:{box.height}:{box.left}:{box.top}:exact=1,scale={SIZE}:{SIZE}:flags={SCALER}"
        f"{',hflip' if box.mirrored else ''},format=rgb24"
    )
    return io.decode_packets(packets, filter_desc=filters), box


def _even(box: Box) -> Box:
    left, top, width, height = (value // 2 * 2 for value in (box.left, box.top, box.width, box.height))
    return Box(left, top, max(width, 2), max(height, 2), box.mirrored)


def _collate(samples: list[tuple[Any, int]]) -> tuple[torch.Tensor, NDArray[np.int64]]:
    return _normalised([frames for frames, _ in samples]), np.array([label for _, label in samples])


def _normalised(frames: list[Any]) -> torch.Tensor:
    images_BHWC: torch.Tensor = io.to_torch(io.convert_frames(frames))
    return images_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).sub_(_OFFSET).mul_(_FACTOR)


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(SpdlBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
