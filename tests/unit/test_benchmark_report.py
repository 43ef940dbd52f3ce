"""Every kept run of a benchmark can be shown."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import report

RESULTS = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.json"))


def test_there_are_kept_runs():
    assert RESULTS


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_kept_run_is_shown(file):
    run = json.loads(file.read_text())
    out = io.StringIO()
    Console(file=out, width=160).print(report.table(run) if "results" in run else report.limit_table(run))
    for name in [each["contender"] for each in run.get("results", ())]:
        assert name in out.getvalue()
