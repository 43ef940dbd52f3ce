"""NVIDIA DALI's pipeline on the CPU: its WebDataset reader with indexes, and a decoder that reads only the rows of the crop.

Batches are views of DALI's own buffers, without the copy that its framework iterators may make.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import nvidia.dali.fn
import nvidia.dali.types
from numpy.typing import NDArray

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.jpeg import AREA, ASPECT, MEAN, SIZE, STD, Job

dali: Any = nvidia.dali

SHUFFLE_BUFFER = 500
PREFETCH_QUEUE_DEPTH = 2


class DaliBatches:
    packages = ("nvidia-dali-cuda130",)

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = (
            f"num_threads={job.threads}, device_id=None, readers.webdataset with indexes, initial_fill={SHUFFLE_BUFFER},"
            f" decoders.image_random_crop, prefetch_queue_depth={PREFETCH_QUEUE_DEPTH}, batches without a copy"
        )
        self.pipeline = _pipeline(job)
        self.pipeline.build()

    def epoch(self) -> Iterator[Batch]:
        for _ in range(self.job.samples // self.job.batch):
            images, names = self.pipeline.run()
            yield Batch(np.asarray(images.as_tensor()), _labels(np.asarray(names.as_tensor())))

    def close(self) -> None:
        del self.pipeline


def _pipeline(job: Job) -> Any:
    antialias = job.form.resampling == "antialiased"

    @dali.pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=job.batch, num_threads=job.threads, device_id=None, seed=job.seed, prefetch_queue_depth=PREFETCH_QUEUE_DEPTH
    )
    def pipeline() -> tuple[Any, Any]:
        jpeg, name = dali.fn.readers.webdataset(
            paths=job.tars, index_paths=job.indexes, ext=["jpg", "cls"], random_shuffle=True, initial_fill=SHUFFLE_BUFFER
        )
        image = dali.fn.decoders.image_random_crop(
            jpeg, device="cpu", output_type=dali.types.RGB, random_area=list(AREA), random_aspect_ratio=list(ASPECT)
        )
        image = dali.fn.resize(
            image,
            size=[SIZE, SIZE],
            interp_type=dali.types.INTERP_TRIANGULAR if antialias else dali.types.INTERP_LINEAR,
            antialias=antialias,
        )
        if job.form.output == "levels":
            return dali.fn.flip(image, horizontal=dali.fn.random.coin_flip()), name
        image = dali.fn.crop_mirror_normalize(
            image,
            mirror=dali.fn.random.coin_flip(),
            mean=[255 * x for x in MEAN],
            std=[255 * x for x in STD],
            dtype=dali.types.FLOAT,
            output_layout="CHW",
        )
        return image, name

    return pipeline()


def _labels(names: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Labels of a batch from their names: rows of ASCII digits of one width."""
    labels: NDArray[np.int64] = (names.astype(np.int64) - ord("0")) @ (10 ** np.arange(names.shape[1] - 1, -1, -1))
    return labels


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(DaliBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
