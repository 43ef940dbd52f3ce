"""Fixtures that tests share: a real S3 server, and real data where they are: photographs, sounds, tables, text."""

import os
import subprocess
import sys
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"


@dataclass(frozen=True)
class S3:
    """A running S3 server. The environment variables that clients and child processes need are set."""

    endpoint: str
    bucket: str

    def url(self, name="lake"):
        """A prefix that nobody else uses."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex[:12]}/{name}"

    def lose_acknowledgements(self, count):
        """Let the server carry out the next `count` writes and answer them with an error."""
        _request(f"{self.endpoint}/_lose/{count}", "POST")

    def age_uploads(self, seconds):
        """Let all multipart uploads that there are have been left alone for so long."""
        _request(f"{self.endpoint}/_age/{seconds}", "POST")


def _request(url, method):
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30):
        pass


@pytest.fixture(scope="session")
def s3():
    with subprocess.Popen([sys.executable, str(HERE / "s3.py")], stdout=subprocess.PIPE, text=True) as server:
        endpoint = server.stdout.readline().strip()
        environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
                patch.delenv(name, raising=False)
            _request(f"{endpoint}/tests", "PUT")
            yield S3(endpoint, "tests")
        server.terminate()


@pytest.fixture(scope="session")
def photos():
    """The folder of photographs, for tests that want real pictures."""
    return _real("photos")


@pytest.fixture(scope="session")
def spoken_digits():
    """The folder of recordings of one spoken digit each: DIGIT_SPEAKER_NUMBER.wav."""
    return _real("spoken_digits")


@pytest.fixture(scope="session")
def sensors():
    """The folder of readings of sensors: data/*/*.csv with the columns timestamp and value."""
    return _real("sensors")


@pytest.fixture(scope="session")
def text():
    """The folder of texts."""
    return _real("text")


def _real(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"the real data, {name}, are not beside this checkout")
    return DATA / name


@pytest.fixture
def fresh_environment(monkeypatch):
    """No lake named by the surroundings."""
    monkeypatch.delenv("DATAPLANE_LAKE", raising=False)
    return os.environ
