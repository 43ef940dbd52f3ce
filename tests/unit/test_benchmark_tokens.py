"""The benchmark of token packing: its inputs, and that a contender which delivers something else is found out."""

import numpy as np
import pytest

from benchmarks.peers.protocol import VerificationFailed
from benchmarks.peers.tokens.dataplane import DataplanePacker
from benchmarks.peers.tokens.hugging import HuggingPacker
from benchmarks.peers.tokens.packing import PackContender
from benchmarks.tasks import Request
from benchmarks.tasks.tokens import Job, prepare


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    prepared = prepare(Request(data=None, cache=cache, samples=1200, threads=2))
    assert prepare(Request(data=None, cache=cache, samples=1200, threads=2)) == prepared
    return Job.from_json(prepared.job)


@pytest.mark.parametrize("packer", [DataplanePacker, HuggingPacker])
def test_contenders_deliver_the_tokens(job, packer):
    contender = PackContender(packer(job), job)
    assert "none more often" in contender.verify()["tokens"]
    assert contender.measure(0.1).images > 0


class Spoiled(DataplanePacker):
    def __init__(self, job, spoil):
        super().__init__(job)
        self.spoil = spoil

    def epoch(self):
        yield from self.spoil(list(super().epoch()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda batches: [*batches, batches[0]],
        lambda batches: batches[:-2],
        lambda batches: [batch.astype(np.int64) for batch in batches],
        lambda batches: [batch[:, 1:] for batch in batches],
        lambda batches: [np.zeros_like(batch) for batch in batches],
    ],
    ids=["twice", "lost", "wide", "short", "wrong"],
)
def test_a_contender_that_delivers_something_else_is_found_out(job, spoil):
    with pytest.raises(VerificationFailed):
        PackContender(Spoiled(job, spoil), job).verify()
