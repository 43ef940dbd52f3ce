"""The command serve."""

from __future__ import annotations

import signal
import socket
from typing import Annotated

import typer

from dataplane.errors import InvalidArgument, MissingExtra
from dataplane.output import AsJson, LakeUrl, emit, err, open_lake

__all__ = ["serve"]


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL[@N]", help="A published model: MODEL is its newest version, MODEL@3 another.")],
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one, which is printed.")] = 8000,
    limit: Annotated[int, typer.Option("--limit-mib", min=1, help="The largest picture that is accepted, in MiB.")] = 32,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Serve a model over HTTP: POST a picture to /predict, get its class and probabilities.

    Ctrl-C and SIGTERM answer the requests that are open, then end with exit code 0. With --json, standard output is one document,
    {"url", "model"}, as soon as requests are answered.
    """
    try:
        import uvicorn

        from serve.app import create_app
        from serve.model import Predictor
    except ImportError as error:
        raise MissingExtra(f"serving needs more packages ({error}); install them with: pip install 'dataplane[serve,torch]'") from error

    predictor = Predictor(open_lake(context, lake), model)
    app = create_app(predictor, limit_bytes=limit << 20)
    listening = _listen(host, port)
    url = _url(listening)

    def human() -> None:
        err.print(f"Serving [bold]{predictor.model}[/] at {url}; Ctrl-C ends it.")
        err.print(f"Next: curl --data-binary @PICTURE {url}/predict", markup=False)

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    for number in (signal.SIGINT, signal.SIGTERM):  # for one that comes before the server runs; and it raises it again when it has drained
        signal.signal(number, server.handle_exit)
    emit({"url": url, "model": str(predictor.model)}, as_json=as_json, human=human)
    server.run(sockets=[listening])
    err.print("drained")


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, which accepts connections from now on. Raises `InvalidArgument`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        raise InvalidArgument(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --host or --port") from error
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
