"""The error tree is the one its docstring draws, no message carries a secret, and no dependency's error leaks."""

import pickle
import re

import pytest

from dataplane import errors
from dataplane.errors import DataplaneError, NotFound, redact

TREE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)\s*(?:\((?P<builtin>\w+)\))?\s+\"?(?P<kind>[\w-]+)\"?", re.MULTILINE)
CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, DataplaneError)]


def test_the_docstring_draws_the_tree():
    drawn = [found for found in TREE.finditer(errors.__doc__) if found["name"] in errors.__all__]
    assert sorted(found["name"] for found in drawn) == sorted(cls.__name__ for cls in CLASSES)
    above = {0: "DataplaneError"}
    for found in drawn[1:]:
        cls, depth = getattr(errors, found["name"]), len(found["indent"]) // 4
        above[depth] = found["name"]
        assert cls.__bases__[0].__name__ == above[depth - 1]
        assert found["kind"] == cls.kind
        assert found["builtin"] in {None, *(base.__name__ for base in cls.__bases__)}


def test_kinds_are_unique():
    assert len({cls.kind for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_a_builtin_too_and_prints_plainly(cls):
    error = cls("photos has no split 'tset'; it has test, train")
    assert str(error) == error.message == "photos has no split 'tset'; it has test, train"
    assert cls is DataplaneError or len({base for base in cls.__mro__ if base.__module__ == "builtins"}) > 3
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (cls, str(error))


def test_a_handler_of_builtins_catches():
    with pytest.raises(KeyError):
        raise NotFound("gone")
    with pytest.raises(OSError, match="gone"):
        raise errors.CorruptObject("gone")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://user:pw@host/x: denied", "s3://***@host/x: denied"),
        ("https://user:p@ss@host/x", "https://***@host/x"),
        ("<AWSAccessKeyId>AKIA</AWSAccessKeyId><Host>h</Host>", "<AWSAccessKeyId>***</AWSAccessKeyId><Host>h</Host>"),
        ("GET https://b.s3.amazonaws.com/k?X-Amz-Signature=abc&x=1", "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=***&x=1"),
        ("https://h/k?X-Amz-Credential=AKIA%2F2020&X-Amz-Expires=9", "https://h/k?X-Amz-Credential=***&X-Amz-Expires=***"),
        ("https://acct.blob.core.windows.net/c?sv=2020&sig=abc%3D&se=1", "https://acct.blob.core.windows.net/c?sv=2020&sig=***&se=1"),
        ("?AWSAccessKeyId=AKIA&Signature=y", "?AWSAccessKeyId=***&Signature=***"),
        ("Authorization: Bearer eyJhbGciOi.def", "Authorization: ***"),
        ("authorization=AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=deadbeef", "authorization=***"),
        ("sent bearer eyJhbGciOi.def to", "sent bearer *** to"),
        ("aws_secret_access_key = 'abc'", "aws_secret_access_key = '***'"),
        ("{'secret': 'x', \"token\": \"y\"}", "{'secret': '***', \"token\": \"***\"}"),
        ("AWS_SESSION_TOKEN=abc", "AWS_SESSION_TOKEN=***"),
        ("AccountKey=abc==;EndpointSuffix=x", "AccountKey=***;EndpointSuffix=x"),
        ("api_key=abc", "api_key=***"),
        ("https://h/?token=abc&page=2", "https://h/?token=***&page=2"),
    ],
)
def test_redact(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize("text", ["s3://bucket/a@b.jpg", "photos@7 has no sample 'key: 3'", "5 tokens: too many", "a basic error"])
def test_redact_leaves_the_rest(text):
    assert redact(text) == text
