"""An S3 server for tests: moto as a process of its own, printing its URL once it listens.

moto looks whether an object exists and then puts, without a lock; real servers decide in one step. So writes go one at a time here.
`POST /_lose/COUNT` makes the next COUNT writes happen and answers them with 500: acknowledgements get lost. Of buckets with these in their
names, `read-only` refuses every write, `ignores` overlooks the condition of a conditional put, `refuses` knows none, `discreet` tells
nobody of its multipart uploads, and `faithful` lets nobody abort one.

moto tells of all multipart uploads at once, and that each was begun in 2010. Here two of them come at a time, with the time they were begun
at; `POST /_age/SECONDS` makes all there are, and their parts, older by that much.
"""

import html
import logging
import re
import threading
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response


class OneWriteAtATime:
    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()
        self.lose = 0
        self.uploads = Uploads(app)

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/_lose/"):
            self.lose = int(path.rsplit("/", 1)[1])
            return Response(status=204)(environ, start_response)
        if path.startswith("/_age/"):
            self.uploads.age(float(path.rsplit("/", 1)[1]))
            return Response(status=204)(environ, start_response)
        bucket, _, key = path.lstrip("/").partition("/")
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        if environ["REQUEST_METHOD"] not in {"PUT", "POST", "DELETE"}:
            if "uploads" in query and "discreet" in bucket:
                return _refused("AccessDenied", 403)(environ, start_response)
            return self.uploads(environ, start_response, query)
        if "uploadId" in query and environ["REQUEST_METHOD"] == "DELETE" and "faithful" in bucket:
            return _refused("AccessDenied", 403)(environ, start_response)
        if "read-only" in bucket and key and not environ.get("HTTP_X_TEST_OWNER"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refused("AccessDenied", 403)(environ, start_response)
        if "refuses" in bucket and environ.get("HTTP_IF_NONE_MATCH"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refused("NotImplemented", 501)(environ, start_response)
        if "ignores" in bucket:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with self.lock:
            if not self.lose:
                return self.uploads(environ, start_response, query)
            self.lose -= 1
            self.app(environ, lambda *_: None)
            return Response("the acknowledgement got lost", status=500)(environ, start_response)


class Uploads:
    """Multipart uploads as real servers tell of them."""

    def __init__(self, app):
        self.app = app
        self.times = {}  # when each upload, and each part of it, came

    def __call__(self, environ, start_response, query):
        method, upload = environ["REQUEST_METHOD"], query.get("uploadId", [""])[0]
        if method == "PUT" and "partNumber" in query:
            self.times[upload, query["partNumber"][0]] = time.time()
        if not ("uploads" in query and method in {"GET", "POST"}) and not (upload and method == "GET"):
            return self.app(environ, start_response)
        response = Response.from_app(self.app, environ)
        text = response.get_data(as_text=True)
        if method == "POST":
            self.times[_element(text, "UploadId"), ""] = time.time()
        elif upload:
            parts = re.findall("<Part>.*?</Part>", text)
            told = [self.told(part, "LastModified", upload, _element(part, "PartNumber")) for part in parts]
            text = re.sub("<Part>.*</Part>", lambda _: "".join(told), text)
        else:
            text = self.page(text, query)
        response.set_data(text)
        return response(environ, start_response)

    def page(self, text, query):
        found = {(_element(upload, "Key"), _element(upload, "UploadId")): upload for upload in re.findall("<Upload>.*?</Upload>", text)}
        after = tuple(query.get(marker, [""])[0] for marker in ("key-marker", "upload-id-marker"))
        left = sorted(place for place in found if place > after)
        told = [self.told(found[key, upload], "Initiated", upload, "") for key, upload in left[:2]]
        text = re.sub("<Upload>.*</Upload>", lambda _: "".join(told), text)
        if len(left) > 2:
            markers = "<NextKeyMarker>{}</NextKeyMarker><NextUploadIdMarker>{}</NextUploadIdMarker>".format(*map(html.escape, left[1]))
            text = text.replace("false</IsTruncated>", f"true</IsTruncated>{markers}")
        return text

    def told(self, text, name, upload, part):
        stamp = datetime.fromtimestamp(self.times[upload, part], UTC)
        return re.sub(f"(?<=<{name}>)[^<]+", f"{stamp:%Y-%m-%dT%H:%M:%S.000Z}", text)

    def age(self, seconds):
        self.times = {name: came - seconds for name, came in self.times.items()}


def _element(text, name):
    return html.unescape(re.search(f"<{name}>(.*?)</{name}>", text)[1])


def _refused(code, status):
    return Response(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status=status, content_type="application/xml")


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, OneWriteAtATime(DomainDispatcherApplication(create_backend_app)), threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
