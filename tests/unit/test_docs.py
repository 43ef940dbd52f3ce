"""The examples of the documentation run: every ```python block, page by page, and every command is one that there is.

The blocks of a page share their names and run beside a folder `photos` of small pictures in two classes. A block marked ```python notest is
shown and not run.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.main import get_command

from dataplane.cli import build

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w+)(?P<flags>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"""^(?:\$ )?(dataplane (?:"[^"\n]*"|'[^'\n]*'|[^|>#"'\n])*)""", re.MULTILINE)


def blocks(page, language):
    """Line number, flags and code of the page's blocks in a language."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        if found["language"] == language:
            yield text.count("\n", 0, found.start()) + 1, found["flags"], found["code"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATAPLANE_LAKE", raising=False)
    for number in range(40):
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number:03d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 48), 60 + number).convert("RGB").save(file)
    names = {"__name__": "__main__"}
    for line, flags, code in blocks(page, "python"):
        if "notest" not in flags:
            exec(compile("\n" * line + code, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page):
    app = get_command(build())
    for name in app.list_commands(None):
        app.get_command(None, name)  # loads it
    for _, _, code in [*blocks(page, "bash"), *blocks(page, "console")]:
        for line in COMMAND.findall(code.replace("\\\n", " ")):
            _check_command(app, shlex.split(line, comments=True)[1:])


def _check_command(command, words):
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name = word.split("=", 1)[0]
            assert name in known, f"{command.name} has no option {name}; it has {sorted(known)}"
        elif getattr(command, "commands", None) and word in command.commands:
            return _check_command(command.commands[word], words)
        elif getattr(command, "commands", None) and not known & {"--lake"}:
            pytest.fail(f"{command.name} has no command {word!r}")
    return None


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = {page for entry in config["nav"] for page in entry.values()}
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "index.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//(?:fonts|unpkg|cdn)""", page)
