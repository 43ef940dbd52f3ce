"""The benchmark of pixels: what it gives to contenders, and that this project's own passes its verification."""

import numpy as np
import pytest

from benchmarks.peers.batches import BatchContender
from benchmarks.peers.pixels.dataplane import DataplaneBatches
from benchmarks.peers.pixels.resize import ResizeBound
from benchmarks.peers.protocol import VerificationFailed
from benchmarks.photographs import write_photographs
from benchmarks.tasks import Request
from benchmarks.tasks.jpeg import Job
from benchmarks.tasks.pixels import SIDE, memory_mapped, prepare


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    (folder / "photographs").mkdir()
    write_photographs(folder / "photographs", count=4, seed=0)
    return Job.from_json(prepare(Request(folder / "photographs", folder / "cache", 256, 2)).job)


def test_the_pixels_of_all_samples(job):
    pixels, labels = memory_mapped(job)
    assert pixels.shape == (256, SIDE, SIDE, 3)
    assert np.bincount(labels).tolist() == job.repeats == [64] * 4
    bound = ResizeBound(job)
    assert bound.verify() == {"pixels": "equal"}
    bound.pixels = bound.pixels[::-1]
    with pytest.raises(VerificationFailed, match="are not those of the source"):
        bound.verify()
    bound.close()


def test_this_project_passes(job):
    contender = BatchContender(DataplaneBatches(job), job)
    checks = contender.verify()
    assert checks["pixels"]["mean_levels"] <= 1
    assert contender.measure(0.1).images > 0
    contender.close()
