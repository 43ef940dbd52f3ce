"""The bound: OpenCV resizing random crops of mapped pixels into a buffer that is used again. No batches, no labels, no checks."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.protocol import Measurement, VerificationFailed, serve
from benchmarks.tasks.jpeg import SIZE, Box, Job, draw_box
from benchmarks.tasks.pixels import SIDE, memory_mapped, samples_of

BOXES = 512


class ResizeBound:
    packages = ("opencv-python-headless",)

    def __init__(self, job: Job) -> None:
        self.setup = f"{job.threads} threads, cv2.resize (linear) of crops of a memory map"
        cv2.setNumThreads(0)
        self.job = job
        self.pixels, self.labels = memory_mapped(job)
        rng = np.random.default_rng(job.seed)
        self.boxes = [draw_box(rng, SIDE, SIDE) for _ in range(BOXES)]
        self.shares = np.array_split(rng.permutation(job.samples), job.threads)
        self.pool = ThreadPoolExecutor(job.threads)

    def verify(self) -> Mapping[str, Any]:
        """That the map holds the task's pixels."""
        first = {int(label): place for place, label in reversed(list(enumerate(self.labels)))}
        for label, pixels in samples_of(self.job):
            if not np.array_equal(self.pixels[first[label]], pixels):
                raise VerificationFailed(f"the pixels of label {label} are not those of the source")
        return {"pixels": "equal"}

    def measure(self, seconds: float) -> Measurement:
        images, started, elapsed = 0, time.perf_counter(), 0.0
        while images == 0 or elapsed < seconds:
            images += sum(self.pool.map(self._resize_share, self.shares))
            elapsed = time.perf_counter() - started
        return Measurement(images=images, seconds=elapsed)

    def close(self) -> None:
        self.pool.shutdown()

    def _resize_share(self, share: NDArray[np.int64]) -> int:
        out = np.empty((SIZE, SIZE, 3), np.uint8)
        for n, place in enumerate(share):
            cv2.resize(_part(self.pixels[place], self.boxes[n % BOXES]), (SIZE, SIZE), dst=out)
        return len(share)


def _part(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    return image[box.top : box.top + box.height, box.left : box.left + box.width]


def open_contender(job: Mapping[str, Any]) -> ResizeBound:
    return ResizeBound(Job.from_json(job))


if __name__ == "__main__":
    serve(open_contender)
