"""An S3 server for tests: moto as a process of its own, printing its URL once it listens.

moto looks whether an object exists and then puts, without a lock; real servers decide in one step. So writes go one at a time here.
`POST /_lose/COUNT` makes the next COUNT writes happen and answers them with 500: acknowledgements get lost. Of buckets with these in their
names, `read-only` refuses every write, `ignores` overlooks the condition of a conditional put, and `refuses` knows none.
"""

import logging
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response


class OneWriteAtATime:
    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()
        self.lose = 0

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/_lose/"):
            self.lose = int(path.rsplit("/", 1)[1])
            return Response(status=204)(environ, start_response)
        if environ["REQUEST_METHOD"] not in {"PUT", "POST", "DELETE"}:
            return self.app(environ, start_response)
        bucket, _, key = path.lstrip("/").partition("/")
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
                return self.app(environ, start_response)
            self.lose -= 1
            self.app(environ, lambda *_: None)
            return Response("the acknowledgement got lost", status=500)(environ, start_response)


def _refused(code, status):
    return Response(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status=status, content_type="application/xml")


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, OneWriteAtATime(DomainDispatcherApplication(create_backend_app)), threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
