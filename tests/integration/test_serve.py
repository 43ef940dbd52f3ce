"""From a folder of pictures to an answer over HTTP, by the command line alone; then Ctrl-C, with a request half sent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.integration.digits import write_digits

_CONFIG = """
epochs = 6
batch_size = 32
[data]
dataset = "digits"
validate = "test"
threads = 1
transform = [{op = "CenterCrop", size = 8}, {op = "ToFloat"}]
validate_transform = [{op = "CenterCrop", size = 8}, {op = "ToFloat"}]
[model]
kind = "cnn"
width = 16
[optimizer]
kind = "adamw"
lr = 0.01
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from dataplane.cli import main; main()", *arguments]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"DATAPLANE_LAKE": str(tmp_path / "lake"), "OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def test_from_pictures_to_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    def run(*arguments: str) -> Any:
        done = subprocess.run(command(*arguments, "--json"), env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    write_digits(tmp_path / "digits", range(400))
    (tmp_path / "run.toml").write_text(_CONFIG)
    run("ingest", str(tmp_path / "digits"), "digits", "--label-from", "folder", "--split", "train=0.8,test=0.2")
    trained = run("train", str(tmp_path / "run.toml"), "--run", "first")
    assert trained["stopped"] is None
    evaluated = run("evaluate", "first", "--split", "test")
    assert (evaluated["run"], evaluated["split"], evaluated["checkpoint"]) == ("first", "test", trained["checkpoint"])
    assert evaluated["metrics"]["accuracy"] > 0.6
    assert evaluated["metrics"]["loss"] == pytest.approx(trained["metrics"]["val_loss"])
    published = run("publish", "first", "digits")
    assert (published["model"], published["version"], published["checkpoint"]) == ("digits", 1, trained["checkpoint"])
    assert published["metrics"]["evaluations"]["test"] == evaluated["metrics"]

    with subprocess.Popen(
        command("serve", "digits@1", "--port", "0", "--json"), env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        document = json.loads(server.stdout.readline())
        assert document["model"] == "digits@1"
        right = 0
        tests = sorted((tmp_path / "digits").rglob("*.png"))[::10]
        for path in tests:
            request = urllib.request.Request(f"{document['url']}/predict", data=path.read_bytes(), headers={"content-type": "image/png"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                right += json.load(answer)["class"] == path.parent.name
        assert right > 0.6 * len(tests)
        status, body = drained(server, document["url"], tests[0].read_bytes())
    assert status == "HTTP/1.1 200 OK"
    assert json.loads(body)["model"] == "digits@1"
    assert server.returncode == 0


def drained(server: subprocess.Popen[str], url: str, picture: bytes) -> tuple[str, str]:
    """Send half a request, then SIGINT, then the rest: what is answered."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(picture)}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        stream = connection.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 100")  # the application waits for the body now
        assert stream.readline() == b"\r\n"
        connection.sendall(picture[:50])
        server.send_signal(signal.SIGINT)
        connection.sendall(picture[50:])
        status = stream.readline().decode().strip()
        while stream.readline() != b"\r\n":
            pass
        return status, stream.read().decode()
