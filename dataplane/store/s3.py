"""Stores on S3: what obstore does, and the multipart uploads that nobody ended, of which obstore cannot tell. That goes through s3fs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from dataplane.errors import MissingExtra, NotFound, StoreError
from dataplane.store.fsspec import own_errors
from dataplane.store.obs import ObstoreStore
from dataplane.store.protocol import Upload

__all__ = ["S3Store"]

_TRUE: Final = {"1", "true", "on", "yes", "y"}  # what obstore takes for it


class S3Store(ObstoreStore):
    """A store on S3. Implements `Uploads`, with the options, and the surroundings, that the store itself goes by.

    That takes rights of their own: `s3:ListBucketMultipartUploads` on the bucket, and `s3:ListMultipartUploadParts` and
    `s3:AbortMultipartUpload` on its objects. Raises `MissingExtra` where s3fs is not installed.
    """

    _s3fs: Any = None  # made when it is first asked for: few processes do

    def uploads(self, prefix: str) -> Iterator[Upload]:
        below = f"{self._key(prefix)}/"
        for page in self._pages("list_multipart_uploads", ("KeyMarker", "UploadIdMarker"), where=prefix, Prefix=below):
            for upload in page.get("Uploads", ()):
                if upload["Key"].startswith(below):  # a server that knows no prefix tells of all
                    yield from self._upload(upload["Key"], upload["UploadId"], upload["Initiated"])

    def abort(self, upload: Upload) -> None:
        try:
            self._call("abort_multipart_upload", upload.path, Key=self._key(upload.path), UploadId=upload.id)
        except NotFound:
            pass

    def _upload(self, key: str, upload_id: str, began: datetime) -> Iterator[Upload]:
        """The upload as it is by now, if it has not ended since it was listed."""
        path = key.removeprefix(self._key(""))
        touched, size = began, 0
        try:
            for page in self._pages("list_parts", ("PartNumberMarker",), where=path, Key=key, UploadId=upload_id):
                for part in page.get("Parts", ()):
                    touched, size = max(touched, part["LastModified"]), size + part["Size"]
        except NotFound:
            return
        yield Upload(path, upload_id, touched, size)

    def _pages(self, method: str, markers: tuple[str, ...], *, where: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
        """What a listing says, page by page. `markers`: the arguments that say where the next page begins."""
        after: dict[str, Any] = {}
        while True:
            page = self._call(method, where, **arguments, **after)
            yield page
            if not page.get("IsTruncated"):
                return
            before, after = after, {marker: page[f"Next{marker}"] for marker in markers if page.get(f"Next{marker}")}
            if after == before:
                raise StoreError(f"{self.url}/{where}: the server says that there is more to list, and not where")

    def _call(self, method: str, where: str, **arguments: Any) -> Mapping[str, Any]:
        store = self._live()
        with own_errors(f"{self.url}/{where}"):
            if self._s3fs is None:
                self._s3fs = _file_system(store.config)
            return self._s3fs.call_s3(method, Bucket=store.config["bucket"], **arguments)  # type: ignore[no-any-return]

    def _key(self, path: str) -> str:
        prefix = self._live().prefix
        return f"{prefix}/{path}" if prefix else path


def _file_system(config: Mapping[str, str]) -> Any:
    """s3fs, set up as obstore is, which takes from the environment what `config` does not say."""
    try:
        import s3fs
    except ImportError as error:
        raise MissingExtra("multipart uploads are listed through s3fs; pip install dataplane[s3fs]") from error

    def setting(*names: str) -> str | None:
        found = (config.get(name) or os.environ.get(f"AWS_{name.upper()}") for name in names)
        return next(filter(None, found), None)

    def says(name: str) -> bool:
        return (setting(name) or "").lower() in _TRUE

    endpoint, virtual = setting("endpoint", "endpoint_url"), says("virtual_hosted_style_request")
    return s3fs.S3FileSystem(
        anon=says("skip_signature"),
        key=setting("access_key_id"),
        secret=setting("secret_access_key"),
        token=setting("session_token"),
        endpoint_url=_without_bucket(endpoint, config["bucket"]) if endpoint and virtual else endpoint,
        requester_pays=says("request_payer"),
        client_kwargs={"region_name": setting("region", "default_region") or "us-east-1"},
        config_kwargs={"s3": {"addressing_style": "virtual" if virtual else "path"}},
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def _without_bucket(endpoint: str, bucket: str) -> str:
    """With virtual hosts, obstore's endpoint names the bucket, and botocore puts it there itself."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.removeprefix(f"{bucket}.")))
