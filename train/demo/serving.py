"""The published model, served by a process of its own, and asked once."""

from __future__ import annotations

import json
import shlex
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from dataplane.dataset import Dataset
from train.demo.processes import Command, DemoFailed, started, stop
from train.demo.tour import Outcome, Tour

__all__ = ["serve_and_ask"]

_PATIENCE_SECONDS = 30.0


def serve_and_ask(tour: Tour, command: Command, dataset: Dataset, source: Path) -> None:
    """Three steps: serve, ask about the first test picture, and stop. `source`: where the pictures of the dataset lie as files.

    Raises `DemoFailed` where the server does not come up, does not answer, or does not end cleanly.
    """
    sample = dataset["test"][0]
    (label,) = dataset.schema.names("class")
    name = dataset.schema.classes[int(sample.fields[label])]
    picture = next(sample.fields[field] for field in dataset.schema.names("image") if field in sample.fields)
    origin = next(row["source"] for row in dataset.metadata(["key", "source"]).to_pylist() if row["key"] == sample.key)
    with started(command, watch=False) as server:
        result = tour.step("Serve", "Loads the model from the lake, and answers over HTTP.", str(command), lambda: _begin(server, command))
        url = f"{result['url']}/predict"

        def ask() -> Outcome:
            answer = _post(url, picture)
            return f"The picture of class {name} is taken for {answer['class']}, with probability {answer['probability']:.1%}", answer

        curl = shlex.join(("curl", "--data-binary", f"@{source / origin}", url))
        tour.step("Ask", "One of the test pictures.", curl, ask)
        tour.step("Stop", "What Ctrl-C does: SIGINT to the server.", "", lambda: _end(server, command))


def _begin(server: subprocess.Popen[str], command: Command) -> Outcome:
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        raise DemoFailed(f"exit code {server.wait()} from: {command}; what it said is above")
    document = json.loads(line)
    return f"{document['model']} answers at {document['url']}", document


def _end(server: subprocess.Popen[str], command: Command) -> Outcome:
    stop(server)
    if server.returncode:
        raise DemoFailed(f"exit code {server.returncode} after SIGINT from: {command}; it should drain and end with 0")
    return "The server answered what was open and ended with exit code 0", {"exit": server.returncode}


def _post(url: str, body: bytes) -> Any:
    """The JSON answer of our own server: no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/octet-stream"})
    try:
        with opener.open(request, timeout=_PATIENCE_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise DemoFailed(f"{url} answered {error.code}: {error.read(500).decode(errors='replace')}") from error
    except OSError as error:
        raise DemoFailed(f"{url} did not answer: {error}") from error
