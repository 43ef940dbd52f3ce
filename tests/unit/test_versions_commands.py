"""The commands of versions, as users and scripts meet them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.errors import AlreadyExists, InvalidArgument
from dataplane.versions import commands
from tests import make


@pytest.fixture(scope="module")
def app():
    made = typer.Typer()
    for name in commands.__all__:
        made.command(name)(getattr(commands, name))
    return made


@pytest.fixture
def lake(tmp_path, monkeypatch):
    made = Lake.init(str(tmp_path / "lake"))
    make.dataset(made, "numbers", train=(4, 3), test=(2,))
    make.dataset(made, "more", train=(12,))
    monkeypatch.setenv("DATAPLANE_LAKE", made.url)
    monkeypatch.setenv("COLUMNS", "120")
    return made


@pytest.fixture
def run(app, lake):
    def run_(*arguments, code=0):
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run_


def test_clone(run):
    assert run("clone", "numbers@1", "mine", "--json") == {
        "name": "mine",
        "version": 1,
        "parent": "numbers@1",
        "samples": 9,
        "committed": True,
    }
    assert "mine@1 is there already, and shares everything with numbers@1: 9 samples." in run("clone", "numbers", "mine")
    assert "other@1 shares everything with mine@1" in run("clone", "mine", "other")


def test_append(run):
    assert "all@1: 9 samples: 9 added, 0 replaced, 0 were there already." in run("append", "all", "numbers")
    with pytest.raises(AlreadyExists, match="2 keys of more@1 are in all@1 already"):
        run("append", "all", "more")
    found = run("append", "all", "more", "--on-conflict", "skip", "--json")
    assert found == {"name": "all", "version": 2, "samples": 12, "added": 3, "skipped": 9, "replaced": 0, "committed": True}
    assert "Nothing to do: all@2 has all of more already." in run("append", "all", "more", "--on-conflict", "skip")


def test_where(run, tmp_path):
    found = run("where", "numbers", "label = 'one' and width > 0", "--json")
    assert {name: found[name] for name in ("name", "version", "samples", "committed")} == {
        "name": None,
        "version": None,
        "samples": 3,
        "committed": False,
    }
    assert {name: count["samples"] for name, count in found["splits"].items()} == {"train": 3}
    text = run("where", "numbers", "label = 'one'")
    assert "3 samples of numbers@1 match." in text
    assert "Next: dataplane where numbers … --to NEW" in text
    assert "ones@1: 3 samples of numbers@1." in run("where", "numbers", "label = 'one'", "--to", "ones")
    assert "ones@1: 3 samples of numbers@1, as it was." in run("where", "numbers", "label = 'one'", "--to", "ones")
    keys = tmp_path / "keys.txt"
    keys.write_text("one/item 0000\n" + "".join(f"gone\x1b {n}\n" for n in range(30)))
    found = run("where", "numbers", "--keys", str(keys), "--json", code=3)
    assert (found["samples"], len(found["missing"])) == (1, 30)
    text = run("where", "numbers", "--keys", str(keys), code=3)
    assert "30 keys are not there" in text
    assert "gone\\x1b 19" in text
    assert "… and 10 more" in text
    with pytest.raises(InvalidArgument, match="needs a condition"):
        run("where", "numbers")


def test_diff(run):
    found = run("diff", "numbers", "more", "--limit", "1", "--json")
    assert [found[name] for name in ("a", "b", "added", "removed", "changed")] == ["numbers@1", "more@1", 3, 0, 2]
    assert found["keys"] == {"added": ["one/item 0009"], "removed": [], "changed": ["three/item 0007"]}
    text = run("diff", "numbers", "more")
    assert "2 changed (split of 2):" in text
    assert "3 added:" in text
    assert "removed" not in text
    assert "They hold the same." in run("diff", "more", "more")


def test_lineage(run, lake):
    run("append", "all", "numbers")
    run("append", "all", "more", "--on-conflict", "skip")
    run("where", "all", "label = 'one' and key <> '[/bold]'", "--to", "ones")
    found = run("lineage", "ones", "--json")
    assert [each["version"] for each in found] == ["ones@1", "all@2", "all@1", "more@1", "numbers@1"]
    assert set(found[0]) == {"version", "operation", "parents", "source", "parameters", "tool", "created", "samples", "counts", "gone"}
    lines = [line.strip(" │├└─") for line in run("lineage", "ones").splitlines()]
    assert [line.split()[0] for line in lines if "@" in line.split(" ")[0]] == ["ones@1", "all@2", "more@1", "all@1", "numbers@1"]
    assert any("key <> '[/bold]'" in line for line in lines)
    assert "all@1 (not gone back over)" in run("lineage", "all", "--limit", "1").replace("├── ", "").replace("└── ", "")


def test_split(run):
    found = run("split", "numbers", "a=0.5,b=0.5", "--by", "stratified", "--to", "halves", "--json")
    assert (found["name"], found["version"], set(found["splits"])) == ("halves", 1, {"a", "b"})
    assert "numbers@2:" in run("split", "numbers", "a=0.5,b=0.5", "--by", "group", "--group-by", r"(\d)\.jpg$", "--seed", "3")
    assert "Nothing to do: numbers@2 has these splits already." in run(
        "split", "numbers", "a=0.5,b=0.5", "--by", "group", "--group-by", r"(\d)\.jpg$", "--seed", "3"
    )


def test_tag(run, lake):
    assert "numbers has no tags yet." in run("tag", "numbers")
    assert run("tag", "numbers@1", "prod", "--json") == {"name": "numbers", "tag": "prod", "version": 1}
    assert "numbers@prod is numbers@1." in run("tag", "numbers", "prod")
    assert run("tag", "numbers", "--json") == {"name": "numbers", "tags": {"prod": 1}}
    assert "prod" in run("tag", "numbers")
    with pytest.raises(InvalidArgument, match="give a tag for numbers@1"):
        run("tag", "numbers@1")


@pytest.mark.parametrize("name", commands.__all__)
def test_help_has_an_example(run, name):
    assert f"Example: dataplane {name} " in run(name, "--help")
