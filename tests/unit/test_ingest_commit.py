"""Class ids that lie in shards never come to mean another class."""

import pytest

from dataplane.errors import CorruptObject
from dataplane.ingest.badlist import from_commit, to_commit
from dataplane.ingest.commit import agreed_classes
from dataplane.ingest.options import Bad
from dataplane.objects import Objects
from dataplane.store import open_store


@pytest.mark.parametrize(
    ("newest", "planned", "used", "agreed"),
    [
        ((), ("cat", "dog"), {"cat", "dog"}, ("cat", "dog")),
        (("cat",), ("cat", "dog", "docs"), {"dog"}, ("cat", "dog")),
        (("cat",), ("cat", "bad", "dog"), {"dog"}, ("cat", "bad", "dog")),
        (("cat", "dog"), ("cat", "dog", "docs"), set(), ("cat", "dog")),
        (("cat", "dog", "eel"), ("cat", "dog"), {"dog"}, ("cat", "dog", "eel")),  # another ingest came first: the same classes and one more
        (("cat", "ant"), ("cat", "dog"), {"cat"}, ("cat", "ant")),  # another class has the id, but we do not use ours
        (("cat", "ant"), ("cat", "dog"), {"dog"}, None),
        (("cat", "ant", "dog"), ("cat", "dog"), {"dog"}, None),
        (("dog", "cat"), ("cat", "dog"), {"cat"}, None),
    ],
)
def test_agreement(newest, planned, used, agreed):
    assert agreed_classes(newest, planned, used) == agreed


def test_a_long_list_of_bad_sources_is_an_object(tmp_path):
    objects = Objects(open_store(str(tmp_path)))
    few = [Bad("a.jpg", "empty", "e"), Bad("b\n.jpg", "a FIFO")]
    assert to_commit(objects, few) == {"count": 2, "samples": [bad.to_json() for bad in few]}
    assert from_commit(objects, to_commit(objects, few)) == {bad.source: bad for bad in few}
    many = [Bad(f"{n}.jpg", "empty", "e") for n in range(1500)]
    body = to_commit(objects, many)
    assert (body["count"], len(body["samples"])) == (1500, 1000)
    assert from_commit(objects, body) == {bad.source: bad for bad in many}
    assert from_commit(objects, {}) == {}
    with pytest.raises(CorruptObject):
        from_commit(objects, {"samples": [{"source": "a"}]})
