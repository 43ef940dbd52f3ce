"""Appends as a stream makes them, thousands of small ones: parts are merged as they pile up, so none costs more than the first."""

import os
import time

import pytest

from dataplane import Lake, WriteOptions, write
from dataplane.upkeep import verify_lake

SAMPLES = 5
OPTIONS = WriteOptions(new_keys=True)


def rows(number):
    return [{"__key__": f"{number:05d}-{j}", "n": number * SAMPLES + j} for j in range(SAMPLES)]


def check(lake, count):
    dataset = lake.dataset("stream")
    split = dataset["train"]
    assert (dataset.number, len(split), dataset.version.samples) == (count, count * SAMPLES, count * SAMPLES)
    assert [split[i].fields["n"] for i in range(0, len(split), 997)] == list(range(0, len(split), 997))
    assert sorted(dataset.metadata(["n"]).column("n").to_pylist()) == list(range(count * SAMPLES))
    assert verify_lake(lake, "stream@" + str(count)).problems == []


def test_parts_are_merged_as_they_pile_up(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    most = 0
    for number in range(120):
        most = max(most, len(write(lake, "stream", rows(number), options=OPTIONS).version.parts))
    assert 8 <= most < 24
    check(lake, 120)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("DATAPLANE_SOAK"), reason="the long form runs in make soak (DATAPLANE_SOAK=1)")
def test_ten_thousand_appends_stay_linear(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    seconds = []
    for tenth in range(10):
        began = time.monotonic()
        for number in range(tenth * 1000, tenth * 1000 + 1000):
            write(lake, "stream", rows(number), options=OPTIONS)
        seconds.append(time.monotonic() - began)
    check(lake, 10_000)
    print("seconds of each thousand appends:", [round(s, 1) for s in seconds])
    assert min(seconds[5:]) < 2 * min(seconds[:5])
