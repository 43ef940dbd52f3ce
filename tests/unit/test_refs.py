"""Object references: their paths, their JSON, and what is refused."""

import pytest

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.refs import Digest, Foreign, digest_of_path, ref_from_json, ref_to_json

HEX = "ab" + "0" * 62


def test_a_digest_names_a_path_and_back():
    digest = Digest(HEX, ".tar", 7)
    assert digest.path == f"objects/ab/{HEX}.tar"
    assert digest_of_path(digest.path, 7) == digest
    assert str(digest) == "ab0000000000.tar"


@pytest.mark.parametrize(
    "path", ["lake.json", f"objects/ac/{HEX}.tar", f"objects/ab/{HEX}", f"x/objects/ab/{HEX}.tar", f"objects/ab/{HEX}.tar\n"]
)
def test_other_paths_are_no_objects(path):
    assert digest_of_path(path, 7) is None


@pytest.mark.parametrize(
    ("hexadecimal", "suffix", "size"),
    [(HEX.upper(), ".tar", 1), (HEX[1:], ".tar", 1), (HEX, "tar", 1), (HEX, ".t/r", 1), (HEX, ".tar", -1)],
)
def test_what_is_no_digest(hexadecimal, suffix, size):
    with pytest.raises(InvalidArgument, match="not an object name"):
        Digest(hexadecimal, suffix, size)


@pytest.mark.parametrize("ref", [Digest(HEX, ".idx", 0), Foreign("s3://b/k.tar", 9, '"etag"', "v1"), Foreign("https://h/x", 0)])
def test_json_and_back(ref):
    assert ref_from_json(ref_to_json(ref)) == ref


@pytest.mark.parametrize(
    "value", [{}, {"blake3": HEX}, {"blake3": 5, "suffix": ".tar", "size": 1}, {"url": "x"}, {"blake3": "x", "suffix": ".tar", "size": 1}]
)
def test_damaged_json(value):
    with pytest.raises(CorruptObject, match="not an object reference"):
        ref_from_json(value)


def test_a_foreign_object_is_its_url():
    assert str(Foreign("s3://b/k.tar", 9)) == "s3://b/k.tar"
