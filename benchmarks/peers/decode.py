"""The bound: libjpeg-turbo decoding whole photographs from memory into a buffer that is used again. No reading, no transform."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers.protocol import Measurement, VerificationFailed, serve
from benchmarks.tasks.jpeg import Job, some_sources

MEAN_LEVELS = 1.0


class DecodeBound:
    packages = ("simplejpeg",)

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"{job.threads} threads, simplejpeg, whole photographs from memory"
        self.photographs = [Path(path).read_bytes() for path in job.sources]
        self.largest = max(height * width * 3 for height, width, *_ in map(simplejpeg.decode_jpeg_header, self.photographs))
        order = np.random.default_rng(job.seed).permutation(np.repeat(np.arange(len(job.repeats)), job.repeats))
        self.shares = np.array_split(order, job.threads)
        self.pool = ThreadPoolExecutor(job.threads)

    def verify(self) -> Mapping[str, Any]:
        buffer = np.empty(self.largest, np.uint8)
        differences = []
        for path in some_sources(self.job):
            with Image.open(path) as opened:
                expected = np.asarray(opened.convert("RGB"), np.int16)
            found = _decode(path.read_bytes(), buffer)
            if found.shape != expected.shape:
                raise VerificationFailed(f"a photograph decoded to {found.shape}, Pillow decodes it to {expected.shape}")
            differences.append(float(np.abs(found - expected).mean()))
        if max(differences) > MEAN_LEVELS:
            raise VerificationFailed(f"decoded pixels differ from Pillow's by {max(differences):.2f} levels (allowed {MEAN_LEVELS})")
        return {"pixels": {"photographs": len(differences), "mean_levels": round(max(differences), 3)}}

    def measure(self, seconds: float) -> Measurement:
        images, started, elapsed = 0, time.perf_counter(), 0.0
        while images == 0 or elapsed < seconds:
            images += sum(self.pool.map(self._decode_share, self.shares))
            elapsed = time.perf_counter() - started
        return Measurement(images=images, seconds=elapsed)

    def close(self) -> None:
        self.pool.shutdown()

    def _decode_share(self, share: NDArray[np.int64]) -> int:
        buffer = np.empty(self.largest, np.uint8)
        for i in share:
            _decode(self.photographs[i], buffer)
        return len(share)


def _decode(data: bytes, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=buffer)
    return pixels


def open_contender(job: Mapping[str, Any]) -> DecodeBound:
    return DecodeBound(Job.from_json(job))


if __name__ == "__main__":
    serve(open_contender)
