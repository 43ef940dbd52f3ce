"""`dataplane tier status`."""

import json

import pytest
from typer.testing import CliRunner

from dataplane.errors import InvalidArgument, NotFound, StoreError
from dataplane.store.local import LocalStore
from tests.hot import MiB, put_objects, read
from tiering import HotStore
from tiering.commands import app


@pytest.fixture
def run(monkeypatch):
    monkeypatch.delenv("DATAPLANE_HOT", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["status", *map(str, arguments)], catch_exceptions=True)


@pytest.fixture
def folder(tmp_path):
    cold = LocalStore(tmp_path / "cold")
    with HotStore(cold, tmp_path / "hot", 4 * MiB) as hot:
        for ref, _ in put_objects(cold, [MiB, 1000]):
            read(hot, ref)
            read(hot, ref)
    return tmp_path / "hot"


def test_for_machines(run, folder):
    result = run("--hot", folder, "--json")
    assert result.exit_code == 0, result.output
    [tier] = json.loads(result.stdout)["tiers"]
    assert (tier["name"], tier["directory"], tier["limit_bytes"]) == ("hot", str(folder), 4 * MiB)
    assert (tier["objects"], tier["bytes"], tier["hits"], tier["misses"]) == (2, MiB + 1000, 2, 2)
    assert tier["index_bytes"] > 0


def test_for_people(run, folder, monkeypatch):
    monkeypatch.setenv("DATAPLANE_HOT", str(folder))
    result = run()
    assert result.exit_code == 0, result.output
    assert "2 objects, 1.0 MiB of 4.0 MiB" in result.stdout
    assert "4, of which 2 hits (50.0%), 0 fell through" in result.stdout


def test_looking_changes_nothing(run, folder):
    before = sorted((path.name, path.stat().st_size) for path in (folder / "objects").iterdir())
    run("--hot", folder)
    assert sorted((path.name, path.stat().st_size) for path in (folder / "objects").iterdir()) == before


@pytest.mark.parametrize(
    ("prepare", "kind", "message"),
    [
        (lambda folder: [], InvalidArgument, "which hot tier"),
        (lambda folder: ["--hot", folder.parent], NotFound, "is not a hot tier; one is made by the first job"),
        (lambda folder: [(folder / "dataplane-hot.json").write_text("?"), "--hot", folder][1:], StoreError, "cannot be read"),
    ],
)
def test_errors_say_what_to_do(run, folder, prepare, kind, message):
    result = run(*prepare(folder))
    assert isinstance(result.exception, kind)
    assert message in str(result.exception)
