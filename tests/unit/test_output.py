"""What commands share: documents, messages, exit codes, and which lake is meant."""

import json

import pytest
import typer
from typer.testing import CliRunner

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.output import (
    INTERRUPTED,
    AsJson,
    LakeUrl,
    command_line,
    counted,
    emit,
    ending,
    exit_code,
    human_bytes,
    lake_url,
    next_step,
    report_error,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (64 << 20, "64.0 MiB"), (3 << 40, "3.0 TiB"), (1 << 60, "1048576.0 TiB")],
)
def test_human_bytes(count, text):
    assert human_bytes(count) == text


def test_exit_codes():
    assert exit_code(InvalidArgument("x")) == 2
    assert exit_code(CorruptObject("x")) == 1


def test_a_document_is_all_there_is_on_standard_output(capsys):
    emit({"ü": [1]}, as_json=True, human=lambda: pytest.fail("not asked for"))
    written = capsys.readouterr()
    assert json.loads(written.out) == {"ü": [1]}
    assert written.out.count("\n") == 1
    assert written.err == ""


def test_people_get_words(capsys):
    emit({"x": 1}, as_json=False, human=lambda: print("words"))
    assert capsys.readouterr().out == "words\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_goes_to_standard_error(capsys, as_json):
    assert report_error(CorruptObject("[bold]x[/] is damaged"), as_json=as_json) == 1
    written = capsys.readouterr()
    assert "error: [bold]x[/] is damaged" in written.err
    if as_json:
        assert json.loads(written.out) == {"error": {"kind": "corrupt", "message": "[bold]x[/] is damaged"}}
    else:
        assert written.out == ""


@pytest.fixture
def which(monkeypatch):
    """Run a command line of one command; the lake it would work on."""
    monkeypatch.delenv("DATAPLANE_LAKE", raising=False)
    app = typer.Typer()

    @app.callback()
    def root(lake: LakeUrl = None):
        pass

    @app.command()
    def where(context: typer.Context, lake: LakeUrl = None, as_json: AsJson = False):
        typer.echo(lake_url(context, lake))

    @app.command()
    def after(context: typer.Context, lake: LakeUrl = None):
        next_step(context, "show [NAME]")

    @app.command()
    def typed(context: typer.Context, lake: LakeUrl = None):
        typer.echo(command_line(context, "ls"))

    def run(*arguments, env=None):
        done = CliRunner().invoke(app, [*arguments], env=env)
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    return run


def test_which_lake(which):
    environment = {"DATAPLANE_LAKE": "from-environment"}
    assert which("where") == "./lake"
    assert which("where", "--lake", "own") == "own"
    assert which("--lake", "before", "where") == "before"
    assert which("--lake", "before", "where", "--lake", "own") == "own"
    assert which("where", env=environment) == "from-environment"
    assert which("--lake", "before", "where", env=environment) == "before"
    assert which("where", "--lake", "own", env=environment) == "own"


@pytest.mark.parametrize(
    ("before", "own", "environment", "expected"),
    [
        ([], [], None, "dataplane ls"),
        ([], [], "from-environment", "dataplane ls"),
        ([], ["--lake", "from-environment"], "from-environment", "dataplane ls"),
        (["--lake", "other"], [], "from-environment", "dataplane --lake other ls"),
        ([], ["--lake", "./lake"], "from-environment", "dataplane --lake ./lake ls"),
        ([], ["--lake", "./lake"], "", "dataplane ls"),
        (["--lake", "before"], ["--lake", "s3://own/my lake"], None, "dataplane --lake 's3://own/my lake' ls"),
    ],
)
def test_a_command_to_type_is_for_the_same_lake(which, before, own, environment, expected):
    env = None if environment is None else {"DATAPLANE_LAKE": environment}
    assert which(*before, "typed", *own, env=env) == expected


def test_what_to_do_next_works_as_it_stands_and_tells_no_secret(which):
    assert which("after") == "Next: dataplane show [NAME]"
    assert which("--lake", "mine", "after") == "Next: dataplane --lake mine show [NAME]"
    assert "secret" not in which("after", "--lake", "s3://user:secret@bucket/lake")


def test_one_and_many():
    assert [counted(count, "problem") for count in (0, 1, 2000)] == ["0 problems", "1 problem", "2,000 problems"]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (CorruptObject("x is damaged"), "corrupt", 1),
        (InvalidArgument("no"), "invalid-argument", 2),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_every_end_has_one_document_and_its_code(capsys, as_json, raised, kind, code):
    with pytest.raises(SystemExit) as end, ending(as_json=as_json):
        raise raised
    assert end.value.code == code
    written = capsys.readouterr().out
    assert (json.loads(written)["error"]["kind"] == kind) if as_json else written == ""


def test_an_interrupted_command_has_a_document(capsys):
    app = typer.Typer()

    @app.command()
    def work():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end, ending(as_json=True):
        app([])
    assert end.value.code == INTERRUPTED
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "interrupted"


def test_a_command_that_told_of_its_end_is_not_told_of_again(capsys):
    app = typer.Typer()

    @app.command()
    def work():
        emit({"ok": False}, as_json=True, human=lambda: None)
        raise typer.Exit(1)

    with pytest.raises(SystemExit) as end, ending(as_json=True):
        app([])
    assert (end.value.code, json.loads(capsys.readouterr().out)) == (1, {"ok": False})


def test_a_failure_of_the_program_is_a_document_and_keeps_its_trace(capsys):
    with pytest.raises(RuntimeError, match="bug"), ending(as_json=True):
        raise RuntimeError("bug at https://user:pw@host/")
    assert json.loads(capsys.readouterr().out) == {"error": {"kind": "internal", "message": "RuntimeError: bug at https://***@host/"}}
