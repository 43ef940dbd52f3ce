"""The HTTP application: a picture in, its class out. A factory without side effects; `serve.commands` runs it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool

from dataplane.errors import BadSample, DataplaneError
from serve.model import Predictor

__all__ = ["create_app"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def create_app(predictor: Predictor, *, limit_bytes: int) -> FastAPI:
    """The application that answers with `predictor`, and refuses pictures of more than `limit_bytes`.

    POST /predict    the picture's bytes as the body → {"class", "probability", "probabilities": {class: p}, "model"}
    GET  /healthz    200 while the process lives
    GET  /readyz     200 once it can answer: the model is loaded before the application exists
    GET  /metrics    for Prometheus

    Errors are {"error": {"kind", "message"}}: 400 for a body that is no good picture, 413 for one over the limit, 415 for a form.
    """
    app = FastAPI(title=str(predictor.model), docs_url=None, redoc_url=None, openapi_url=None)
    meters = _Meters()
    app.middleware("http")(meters.measure)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        if request.headers.get("content-type", "").startswith("multipart/"):
            return _error(415, "invalid-argument", "send the picture's bytes as the body, not a form: curl --data-binary @picture.jpg")
        body = await _body(request, limit_bytes)
        if body is None:
            return _error(413, "invalid-argument", f"the picture has more than the {limit_bytes:,} bytes that this server takes")
        try:
            answer = await run_in_threadpool(predictor.predict, body)
        except BadSample as error:
            return _error(400, error.kind, str(error))
        except DataplaneError as error:
            return _error(500, error.kind, str(error))
        return JSONResponse(
            {
                "class": answer.name,
                "probability": answer.probability,
                "probabilities": dict(answer.probabilities),
                "model": str(predictor.model),
            }
        )

    @app.get("/healthz")
    @app.get("/readyz")
    async def healthy() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)

    return app


class _Meters:
    """What is measured of POST /predict, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("dataplane_predict_requests", "Requests, by status code.", ["status"], registry=self.registry)
        self._seconds = Histogram("dataplane_predict_seconds", "From request to answer.", buckets=_SECONDS, registry=self.registry)
        self._open = Gauge("dataplane_predict_open", "Requests being answered.", registry=self.registry)

    async def measure(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """Count and time one request."""
        if request.url.path != "/predict":
            return await call_next(request)
        start = time.perf_counter()
        with self._open.track_inprogress():
            response = await call_next(request)
        self._seconds.observe(time.perf_counter() - start)
        self._requests.labels(str(response.status_code)).inc()
        return response


async def _body(request: Request, limit_bytes: int) -> bytes | None:
    """The body, or None as soon as it is known to be over the limit."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit_bytes:
        return None
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit_bytes:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _error(status: int, kind: str, message: str) -> Response:
    content: dict[str, Any] = {"error": {"kind": kind, "message": message}}
    return JSONResponse(content, status_code=status)
