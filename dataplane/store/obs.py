"""Stores through obstore: `s3://`, `gs://`, `az://`, `memory://`, `http(s)://`.

obstore retries 5xx, time-outs and throttling with back-off by itself and refreshes credentials. Its runtime does not survive a
fork: a forked child is told so instead of hanging.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import obstore
from obstore import exceptions

from dataplane.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SourceChanged,
    StoreError,
    StoreUnavailable,
    redact,
)
from dataplane.ranges import Span, clip, coalesce, resolve, scatter
from dataplane.store.paths import check_path
from dataplane.store.protocol import CHUNK_BYTES, MAX_CONCURRENCY
from dataplane.store.result import BufferResult

if TYPE_CHECKING:
    from obspec import Attributes, GetOptions, GetResult, ListResult, ObjectMeta, PutMode, PutResult
    from typing_extensions import Buffer

__all__ = ["ObstoreStore"]

_MAX_GAP_BYTES = 1 << 20
_MAX_REQUEST_BYTES = 16 << 20
_STATUS = re.compile(r"status code: (\d{3})")
_PASSING_STATUS = re.compile(r"408|429|5(?!01)\d\d")  # "not implemented" will not pass
_PASSING_WORDS = re.compile(r"timed out|timeout|connect|error sending request|response body")
_URL = re.compile(r"https?://\S+")  # names and ports in it must not decide what an error is

_memory: dict[str, Any] = {}
_memory_lock = threading.Lock()


class ObstoreStore:
    """A store that obstore serves. `options` are obstore's configuration keys; unset ones come from the environment."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self._url = url.rstrip("/") if not url.endswith("://") else url
        self._options = dict(options or {})
        self._pid = os.getpid()
        with self._errors(""):
            self._store = _connect(self._url, self._options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __reduce__(self) -> tuple[type[Self], tuple[str, dict[str, str]]]:
        if self._url.startswith("memory:"):
            raise InvalidArgument(f"{self._url} lives in one process and cannot be sent to another; use a folder or an object store")
        return type(self), (self._url, self._options)

    @property
    def url(self) -> str:
        return redact(self._url)

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        with self._errors(path):
            result = self._live().get(check_path(path), options=options)
            return BufferResult(result.bytes(), result.meta, result.range[0])

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        return self.get_ranges(path, starts=[start], ends=None if end is None else [end], lengths=None if length is None else [length])[0]

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        spans = resolve(starts, ends, lengths)
        try:
            return self._ranges(path, spans)
        except StoreError as error:
            if error.kind != StoreError.kind:
                raise
            size = self.head(path)["size"]
            if all(span.start < size for span in spans):
                raise
            return self._ranges(path, clip(spans, size))  # servers refuse a range that starts at the end, with 416

    def _ranges(self, path: str, spans: Sequence[Span]) -> Sequence[Buffer]:
        requests = coalesce(spans, max_gap_bytes=_MAX_GAP_BYTES, max_request_bytes=_MAX_REQUEST_BYTES)
        wanted = [request.span for request in requests if len(request.span)]
        with self._errors(path):
            got = iter(
                self._live().get_ranges(check_path(path), starts=[s.start for s in wanted], ends=[s.end for s in wanted]) if wanted else ()
            )
        return scatter(spans, requests, [memoryview(next(got)) if len(request.span) else memoryview(b"") for request in requests])

    def get_ranges_matching(self, path: str, *, starts: Sequence[int], lengths: Sequence[int], etag: str) -> Sequence[Buffer]:
        spans = resolve(starts, None, lengths)
        try:
            return self._ranges_matching(path, spans, etag)
        except StoreError as error:
            if error.kind != StoreError.kind:
                raise
            size = self.head(path)["size"]
            if all(span.start < size for span in spans):
                raise
            return self._ranges_matching(path, clip(spans, size), etag)  # as in `get_ranges`

    def _ranges_matching(self, path: str, spans: Sequence[Span], etag: str) -> Sequence[Buffer]:
        requests = coalesce(spans, max_gap_bytes=_MAX_GAP_BYTES, max_request_bytes=_MAX_REQUEST_BYTES)

        def read(span: Span) -> memoryview:
            if not len(span):
                return memoryview(b"")
            with self._errors(path):
                condition = {} if etag.startswith("W/") else {"if_match": etag}  # a weak one matches nothing there, not even itself
                result = self._live().get(check_path(path), options={"range": (span.start, span.end), **condition})
                if not _same_etag(result.meta["e_tag"], etag):  # web servers may not know If-Match
                    raise exceptions.PreconditionError
                return memoryview(result.bytes())

        if len(requests) == 1:
            return scatter(spans, requests, [read(requests[0].span)])
        with ThreadPoolExecutor(MAX_CONCURRENCY, thread_name_prefix="dataplane-ranges") as threads:  # get_ranges takes no condition
            return scatter(spans, requests, list(threads.map(read, [request.span for request in requests])))

    def put(
        self,
        path: str,
        file: IO[bytes] | Path | bytes | Buffer | Iterator[Buffer] | Iterable[Buffer],
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = CHUNK_BYTES,
        max_concurrency: int = MAX_CONCURRENCY,
    ) -> PutResult:
        with self._errors(path):
            return self._live().put(  # type: ignore[no-any-return]
                check_path(path),
                file,
                attributes=attributes,
                tags=tags,
                mode=mode,
                use_multipart=use_multipart,
                chunk_size=chunk_size,
                max_concurrency=max_concurrency,
            )

    def head(self, path: str) -> ObjectMeta:
        with self._errors(path):
            try:
                return self._live().head(check_path(path))  # type: ignore[no-any-return]
            except FileNotFoundError:
                if not self._url.lower().startswith(("http://", "https://")):
                    raise
                # a 405 looks the same: some web servers answer GET only
                return self._live().get(path, options={"range": (0, 1)}).meta  # type: ignore[no-any-return]

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        with self._errors(prefix or ""):
            yield from self._live().list(prefix, offset=offset)

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        with self._errors(prefix or ""):
            return self._live().list_with_delimiter(prefix)  # type: ignore[no-any-return]

    def delete(self, paths: str | Sequence[str]) -> None:
        wanted = [paths] if isinstance(paths, str) else list(paths)
        for path in wanted:
            check_path(path)
        with self._errors(wanted[0] if wanted else ""):
            try:
                self._live().delete(wanted)
            except FileNotFoundError:  # some stores stop there
                for path in wanted:
                    with suppress(FileNotFoundError):
                        self._live().delete(path)

    def _live(self) -> Any:
        if os.getpid() != self._pid:
            raise StoreError(f"{self.url} was opened before a fork; start worker processes with the 'spawn' method")
        return self._store

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turns obstore's errors into this project's."""
        where = f"{self.url}/{path}" if path else self.url
        try:
            yield
        except exceptions.AlreadyExistsError as error:
            raise AlreadyExists(f"{where} exists already") from error
        except exceptions.PreconditionError as error:
            raise SourceChanged(f"{where} has changed: it is no longer the object whose etag was recorded") from error
        except FileNotFoundError as error:
            raise NotFound(f"{where}: no such object") from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as error:
            raise PermissionDenied(f"{where}: access denied; check the credentials and the bucket's policy ({_short(error)})") from error
        except exceptions.BaseError as error:
            text = _short(error)
            if "Range request not supported" in text:
                text = "this server sends objects whole only, and samples are read as byte ranges; use one that knows ranges, as nginx does"
            raise (StoreUnavailable if _may_pass(text) else StoreError)(f"{where}: {text}") from error


def _same_etag(one: str | None, other: str) -> bool:
    """Listings and answers of one server may quote differently."""
    return one is not None and one.removeprefix("W/").strip('"') == other.removeprefix("W/").strip('"')


def _may_pass(text: str) -> bool:
    status = _STATUS.search(text)
    if status:
        return _PASSING_STATUS.fullmatch(status[1]) is not None
    return _PASSING_WORDS.search(_URL.sub("", text).lower()) is not None


def _short(error: BaseException) -> str:
    return redact(str(error).split("\n\nDebug source")[0].strip())


def _connect(url: str, options: dict[str, str]) -> Any:
    if url.startswith("memory:"):
        with _memory_lock:
            return _memory.setdefault(url, obstore.store.MemoryStore())
    config: Any = dict(options)
    client: Any = {"allow_http": True} if url.lower().startswith("http://") else {}
    if url.startswith(("s3://", "s3a://")):
        named = {name.lower().removeprefix("aws_"): value for name, value in options.items()}  # a key has several names
        given = named.get("endpoint") or named.get("endpoint_url")
        endpoint = given or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
        if endpoint and endpoint.startswith("http://"):
            client["allow_http"] = True
        if {"region", "default_region"}.isdisjoint(named) and not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
            config["region"] = "us-east-1"
    return obstore.store.from_url(url, config=config or None, client_options=client or None)
