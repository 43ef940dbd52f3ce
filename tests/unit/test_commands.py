"""The commands of the storage layer, as users and scripts meet them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.cli import build
from tests import make

PROGRAM = str(Path(sys.executable).with_name("dataplane"))


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """A lake with a dataset of two versions; `DATAPLANE_LAKE` names it."""
    made = Lake.init(str(tmp_path / "lake"))
    make.dataset(made, "numbers", train=(4, 3), test=(2,))
    make.dataset(made, "numbers", train=(4, 3, 1), test=(2,))
    made.catalog.tag("numbers", "prod", 1)
    monkeypatch.setenv("DATAPLANE_LAKE", made.url)
    return made


@pytest.fixture(scope="module")
def app():
    return build()


@pytest.fixture
def run(app):
    def run_(*arguments):
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run_


def program(*arguments, **options):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=120, **options)


def test_init(run, tmp_path):
    url = str(tmp_path / "new")
    document = run("init", "--lake", url, "--json")
    assert document == {"lake": url, "id": Lake(url).id}
    assert run("init", "--lake", url, "--json") == document
    assert run("init", "--lake", url).splitlines()[1] == f"Next: dataplane --lake {url} ingest FOLDER NAME"


def test_ls(run, lake, tmp_path):
    newest = lake.catalog.version("numbers")
    assert run("ls", "--json") == [{"name": "numbers", "version": 2, "samples": 10, "bytes": newest.bytes}]
    assert "numbers" in run("ls")
    empty = Lake.init(str(tmp_path / "empty")).url
    assert run("ls", "--lake", empty, "--json") == []
    assert "has no datasets yet" in run("--lake", empty, "ls")


def test_ls_lists_what_can_be_read_beside_what_cannot(run, app, lake):
    make.dataset(lake, "others")
    file = lake.store.root / lake.catalog.log("numbers").path(2)
    file.write_bytes(file.read_bytes()[:-1])
    broken = CliRunner().invoke(app, ["ls", "--json"])
    assert broken.exit_code == 1
    numbers, others = json.loads(broken.stdout)
    assert numbers.keys() == {"name", "error"}
    assert numbers["name"] == "numbers"
    assert f"{lake.url}/{lake.catalog.log('numbers').path(2)} is damaged" in numbers["error"]
    assert (others["name"], others["version"]) == ("others", 1)
    told = CliRunner().invoke(app, ["ls"])
    assert told.exit_code == 1
    assert "others" in told.stdout
    assert f"unreadable numbers: {numbers['error']}" in told.stdout
    assert "Next: dataplane verify" in told.stdout
    assert run("log", "others", "--json")


def test_ls_of_nothing_but_damage_does_not_say_that_there_is_nothing(app, lake):
    file = lake.store.root / lake.catalog.log("numbers").path(2)
    file.write_bytes(b"")
    told = CliRunner().invoke(app, ["ls"])
    assert told.exit_code == 1
    assert "unreadable numbers: " in told.stdout
    assert "no datasets yet" not in told.stdout


def test_what_to_do_next_names_the_lake_that_was_given(run, lake, monkeypatch):
    monkeypatch.delenv("DATAPLANE_LAKE")
    assert f"Next: dataplane --lake {lake.url} show NAME" in run("--lake", lake.url, "ls")
    assert f"Next: dataplane --lake {lake.url} show numbers@2" in run("log", "numbers", "--lake", lake.url)


def test_show(run, lake):
    document = run("show", "numbers@1", "--json")
    assert {"name", "version", "created", "splits", "fields", "lineage"} <= document.keys()
    assert (document["name"], document["version"]) == ("numbers", 1)
    assert document["splits"].keys() == {"test", "train"}
    assert document["splits"]["train"].keys() == {"samples", "shards", "bytes"}
    assert document["splits"]["train"]["samples"] == 7
    assert document["fields"] == {"cls": {"kind": "class"}, "jpg": {"kind": "image"}}
    assert document["lineage"]["operation"] == "make"
    assert document == run("show", "numbers@prod", "--json")
    assert run("show", "numbers", "--json")["version"] == 2
    text = run("show", "numbers")
    for word in ("numbers@2", "train", "test", "one, three, two", "jpg (image)", f'Lake("{lake.url}").dataset("numbers@2")["test"][0]'):
        assert word in text


def test_show_names_bad_samples(run, lake):
    bad = {"count": 2, "samples": []}
    lake.catalog.commit("numbers", lambda newest: make.change(newest.parts, [], bad=bad))
    assert run("show", "numbers", "--json")["bad"] == bad
    assert "2 bad samples were left out" in run("show", "numbers")


def test_log(run, lake):
    rows = run("log", "numbers", "--json")
    assert [(row["version"], row["samples"], row["operation"]) for row in rows] == [(2, 10, "make"), (1, 9, "make")]
    assert "Next: dataplane show numbers@2" in run("log", "numbers")


def test_verify(run, app, lake):
    document = run("verify", "--json")
    assert document["ok"]
    assert document.keys() == {"ok", "objects", "bytes", "problems"}
    assert "all good" in run("verify", "numbers@1")
    path = lake.dataset("numbers")["train"].shards[0].row.ref.path
    file = lake.store.root / path
    file.write_bytes(file.read_bytes()[:-1])
    broken = CliRunner().invoke(app, ["verify", "--json"])
    assert broken.exit_code == 1
    problems = json.loads(broken.stdout)["problems"]
    assert [problem["object"] for problem in problems] == [path]
    text = CliRunner().invoke(app, ["verify"]).stdout
    assert f"damaged {path}: " in text
    assert "1 problem." in text


@pytest.mark.parametrize(
    "command", ["init", "ingest", "ls", "show", "head", "log", "verify", "tier", "train", "evaluate", "publish", "serve", "demo"]
)
def test_every_command_has_help_and_json(app, command):
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0
    assert "Usage" in done.stdout
    if command != "tier":  # a group: its commands have it
        assert "--json" in done.stdout


# ------------------------------------------------------------------ the program


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["show", "nothing"], 1, "not-found"),
        (["show", "numbers@9"], 1, "not-found"),
        (["show", "a b"], 2, "invalid-argument"),
        (["verify", "x"], 1, "not-found"),
    ],
)
def test_errors_are_documents_too(lake, arguments, code, kind):
    done = program(*arguments, "--json")
    assert done.returncode == code
    document = json.loads(done.stdout)
    assert document["error"]["kind"] == kind
    assert document["error"]["message"] in done.stderr
    plain = program(*arguments)
    assert (plain.returncode, plain.stdout) == (code, "")
    assert plain.stderr.startswith("error: ")
    assert "Traceback" not in plain.stderr


def test_no_lake_says_how_to_make_one(tmp_path):
    done = program("ls", cwd=tmp_path, env={**os.environ, "DATAPLANE_LAKE": ""})
    assert done.returncode == 1
    assert f"{tmp_path}/lake is not a lake; make one with: dataplane --lake {tmp_path}/lake init" in done.stderr


def test_wrong_usage():
    for arguments in (["show"], ["nosuch"], ["ls", "--nosuch"]):
        done = program(*arguments)
        assert (done.returncode, done.stdout) == (2, "")


def test_a_command_loads_nothing_of_the_others(tmp_path):
    script = "import sys; from dataplane.cli import main\ntry: main()\nfinally: print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, "init", "--lake", str(tmp_path / "lake")], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "dataplane.commands" in loaded
    assert not loaded & {"dataplane.ingest", "dataplane.upkeep", "dataplane.versions", "train", "torch"}


def test_a_misspelled_command_is_told_what_may_have_been_meant():
    done = subprocess.run([sys.executable, "-c", "from dataplane.cli import main; main()", "expir"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean 'expire'?" in done.stderr


def test_the_version():
    from importlib import metadata

    assert program("--version").stdout == f"dataplane {metadata.version('dataplane')}\n"


def test_a_reader_that_leaves_is_no_failure(lake):
    for arguments in (["ls"], ["show", "numbers", "--json"]):
        with subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            running.stdout.close()
            assert running.stderr.read() == ""
            assert running.wait(60) == 0


def test_completion_of_the_shell():
    done = program(env={**os.environ, "_DATAPLANE_COMPLETE": "complete_bash", "COMP_WORDS": "dataplane sh", "COMP_CWORD": "1"})
    assert done.stdout.split() == ["show"]


@pytest.mark.parametrize("arguments", [["show", "--json"], ["nosuch", "--json"], ["ls", "--json", "--nosuch"], ["--json", "ls"]])
def test_wrong_usage_is_a_document_too(arguments):
    done = program(*arguments)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "invalid-argument"
    assert error["message"].split()[0] in done.stderr


def test_brackets_in_the_url_of_a_lake_are_no_markup(run, tmp_path):
    url = str(tmp_path / "a[b]" / "c[" / "d]")
    assert run("init", "--lake", url).startswith(f"{url} is a lake")
    assert run("ls", "--lake", url).startswith(f"{url} has no datasets yet.")
