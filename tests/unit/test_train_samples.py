"""The sample log: after a resume, its lines are the deliveries that count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataplane.errors import InvalidArgument, StorageFull, StoreError
from train.samples import SampleLog, cut_sample_logs


def write(path: Path, *, rank: int, steps: range, run: str = "run") -> None:
    log = SampleLog(path, run=run, rank=rank)
    for step in steps:
        log.write(epoch=0, step=step, positions=[step], keys=[f"key {step}"])
    log.sync()
    log.close()


def steps(path: Path, rank: int) -> list[int]:
    return [json.loads(line)["step"] for line in Path(f"{path}.rank{rank}").read_text().splitlines()]


def test_lines_behind_the_checkpoint_are_cut_on_every_rank(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "samples"
    for rank in range(3):
        write(path, rank=rank, steps=range(1, 8 + rank))
    cut_sample_logs(path, run="run", step=5)
    write(path, rank=0, steps=range(6, 9))
    assert [steps(path, rank) for rank in range(3)] == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize("torn", [b'{"run": "run", "epoch": 0, "st', b'{"run": "run", "epoch": 0, "step": 4, "rank": 0}'])
def test_a_torn_last_line_is_cut(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "samples"
    write(path, rank=0, steps=range(1, 4))
    with open(f"{path}.rank0", "ab") as file:
        file.write(torn)
    cut_sample_logs(path, run="run", step=3)
    assert steps(path, 0) == [1, 2, 3]


def test_a_run_that_died_before_its_first_checkpoint_starts_an_empty_log(tmp_path: Path) -> None:
    write(tmp_path / "samples", rank=0, steps=range(1, 4))
    cut_sample_logs(tmp_path / "samples", run="run", step=0)
    assert steps(tmp_path / "samples", 0) == []


def test_the_log_of_another_run_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "samples", rank=0, steps=range(1, 4), run="other")
    with pytest.raises(InvalidArgument, match="is the sample log of run other, not of run; move it away"):
        cut_sample_logs(tmp_path / "samples", run="run", step=0)
    assert steps(tmp_path / "samples", 0) == [1, 2, 3]


def test_a_log_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples", run="run", rank=0)
    for attempt in (
        lambda: cut_sample_logs(tmp_path / "samples", run="run", step=0),
        lambda: SampleLog(tmp_path / "samples", run="run", rank=0),
    ):
        with pytest.raises(InvalidArgument, match="is being written by another process: is the run still training"):
            attempt()
    log.close()
    cut_sample_logs(tmp_path / "samples", run="run", step=0)


def test_a_line_says_who_got_what(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples", run="run", rank=1)
    log.write(epoch=2, step=9, positions=[4, 6], keys=["a b", "ü\udcff"])
    log.close()
    line = json.loads(Path(f"{tmp_path / 'samples'}.rank1").read_text())
    assert line == {"run": "run", "epoch": 2, "step": 9, "rank": 1, "positions": [4, 6], "keys": ["a b", "ü\udcff"]}


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b"{}\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "samples.rank0").write_bytes(line)
    with pytest.raises(InvalidArgument, match="is no sample log"):
        cut_sample_logs(tmp_path / "samples", run="run", step=3)
    assert (tmp_path / "samples.rank0").read_bytes() == line


def test_a_place_that_cannot_be_written_is_an_error_of_ours() -> None:
    with pytest.raises(StoreError):
        SampleLog(Path("/dev/null/samples"), run="run", rank=0)
    log = SampleLog.__new__(SampleLog)
    with open("/dev/full", "ab", buffering=0) as full:
        log._run, log._rank, log._file = "run", 0, full
        with pytest.raises(StorageFull):
            log.write(epoch=0, step=1, positions=[1], keys=["a"])
