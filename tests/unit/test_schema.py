"""Fields and classes: what may be merged, and that class ids never move."""

import pytest

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.schema import Field, Schema


@pytest.mark.parametrize(("name", "kind"), [("", "image"), ("a/b", "image"), ("jpg", "picture")])
def test_what_is_no_field(name, kind):
    with pytest.raises(InvalidArgument, match="kinds are image, class, bytes"):
        Field(name, kind)


def test_new_classes_go_behind_the_old_ones():
    schema = Schema().merged([Field("jpg", "image")], ["zebra", "ant"])
    assert schema.classes == ("ant", "zebra")
    grown = schema.merged([Field("cls", "class"), Field("jpg", "image")], ["bee", "ant", "aardvark"])
    assert grown.classes == ("ant", "zebra", "aardvark", "bee")
    assert [grown.class_id(name) for name in schema.classes] == [0, 1]
    assert [field.name for field in grown.fields] == ["cls", "jpg"]
    assert grown.names("image") == ("jpg",)
    assert grown.merged([], ["ant"]) == grown


def test_a_field_keeps_its_kind():
    with pytest.raises(InvalidArgument, match="'jpg' holds image in this dataset, not bytes"):
        Schema((Field("jpg", "image"),)).merged([Field("jpg", "bytes")], [])


def test_json_and_back():
    schema = Schema((Field("cls", "class"), Field("jpg", "image")), ("b", "a"))
    assert Schema.from_json(schema.to_json()) == schema
    assert schema.to_json() == {"fields": {"cls": {"kind": "class"}, "jpg": {"kind": "image"}}, "classes": ["b", "a"]}


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"fields": [], "classes": []}, {"fields": {"x": {"kind": "y"}}, "classes": []}, {"fields": {"x": None}, "classes": []}],
)
def test_damaged_json(value):
    with pytest.raises(CorruptObject, match="not a schema"):
        Schema.from_json(value)
