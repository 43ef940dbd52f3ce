"""A server of objects for the benchmarks: nginx, which sends from the page cache, so that it is the client that is measured."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.tasks import CannotPrepare

START_SECONDS = 10.0

_CONFIGURATION = """
daemon off;
{user}
worker_processes {workers};
pid {scratch}/nginx.pid;
error_log {scratch}/error.log;
events {{ worker_connections 512; }}
http {{
    log_format bytes '$request_method $status $body_bytes_sent';
    access_log {scratch}/access.log bytes;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        {locations}
    }}
}}
"""


@contextmanager
def nginx(root: Path, scratch: Path, *, workers: int = 2, locations: str = "") -> Iterator[str]:
    """Serve the folders of `root`, each a bucket, on a free port of this machine until the block ends: the endpoint, `http://127.0.0.1:PORT`.

    `scratch` gets the configuration, to which `locations` may add, and the logs. Raises `CannotPrepare` where there is no nginx, or it does
    not start.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise CannotPrepare("this task serves objects with nginx, which is not installed; on Debian and Ubuntu: apt install nginx-light")
    scratch = scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    configuration = scratch / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers would be somebody who may not read the folder
    text = _CONFIGURATION.format(user=user, workers=workers, scratch=scratch, port=port, root=root.resolve(), locations=locations)
    configuration.write_text(text, encoding="utf-8")
    with (scratch / "nginx.log").open("wb") as log:
        process = subprocess.Popen([program, "-p", str(scratch), "-c", str(configuration)], stdout=log, stderr=log)
    try:
        _wait(process, f"http://127.0.0.1:{port}/", scratch)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def bytes_sent(scratch: Path) -> tuple[int, int]:
    """Requests that a server with this scratch has answered, and the bytes of their bodies."""
    rows = [line.split() for line in (scratch / "access.log").read_text(encoding="utf-8").splitlines()]
    return len(rows), sum(int(row[2]) for row in rows)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, scratch: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:  # it answers: there is no page at the root
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    said = (scratch / "nginx.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise CannotPrepare(f"nginx did not start: {said[-1] if said else 'it gave no reason'}")
