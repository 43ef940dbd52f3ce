"""What the samples of a version hold: named fields, and the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dataplane.errors import CorruptObject, InvalidArgument

__all__ = ["Field", "FieldKind", "Schema"]

_NUMBERS = ("bool", "int8", "int16", "int32", "int64", "halffloat", "float", "double")  # of two shards' types the later holds for both

FieldKind = Literal["image", "class", "bytes", "value", "array"]


@dataclass(frozen=True, slots=True)
class Field:
    """A named value of every sample that has it. In a tar shard the name is the member's extension.

    `type` says more of a "value" (its Arrow type, as in `list<int32>`) and of an "array" (`float32[64, 64]`); None for files.
    """

    name: str
    kind: FieldKind
    type: str | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.kind not in get_args(FieldKind):
            raise InvalidArgument(f"not a field: {self.name!r} of kind {self.kind!r}; kinds are {', '.join(get_args(FieldKind))}")

    def __str__(self) -> str:
        return self.kind if self.type is None else f"{self.kind} {self.type}"

    def to_json(self) -> dict[str, str]:
        """The form a field has in a schema, less its name."""
        return {"kind": self.kind, **({"type": self.type} if self.type else {})}


def _both(one: Field, other: Field) -> Field | None:
    """The field that holds the values of both, or None. A type that only nulls were seen of gives way: `list<null>` to `list<string>`."""
    if not one.kind == other.kind == "value" or one.type is None or other.type is None:
        return None
    if {one.type, other.type} <= set(_NUMBERS):
        return max(one, other, key=lambda each: _NUMBERS.index(each.type or ""))
    for vague, exact in ((one, other), (other, one)):
        if re.fullmatch(re.sub(r"\bnull\b", ".+", re.escape(vague.type or "")), exact.type or ""):
            return exact
    return None


@dataclass(frozen=True, slots=True)
class Schema:
    """Fields by name, and class names whose position is the class id. Ids never change: the list only grows."""

    fields: tuple[Field, ...] = ()
    classes: tuple[str, ...] = ()

    def names(self, kind: FieldKind) -> tuple[str, ...]:
        """The names of the fields of one kind."""
        return tuple(field.name for field in self.fields if field.kind == kind)

    def merged(self, fields: Iterable[Field], classes: Iterable[str]) -> Schema:
        """This schema with what is new: fields by name, then class names, sorted, behind those that have an id already."""
        have = {field.name: field for field in self.fields}
        for field in fields:
            known = have.setdefault(field.name, field)
            both = known if known == field else _both(known, field)
            if both is None:
                raise InvalidArgument(f"field {field.name!r} holds {known} in this dataset, not {field}")
            have[field.name] = both
        new = sorted(set(classes) - set(self.classes))
        return Schema(tuple(have[name] for name in sorted(have)), (*self.classes, *new))

    def class_id(self, name: str) -> int:
        """The id of a class."""
        return self.classes.index(name)

    def to_json(self) -> dict[str, Any]:
        """The form a schema has in a commit."""
        return {"fields": {field.name: field.to_json() for field in self.fields}, "classes": list(self.classes)}

    @classmethod
    def from_json(cls, value: Any) -> Schema:
        """The inverse of `to_json`."""
        try:
            fields = tuple(Field(name, spec["kind"], spec.get("type")) for name, spec in sorted(value["fields"].items()))
            return cls(fields, tuple(value["classes"]))
        except (KeyError, TypeError, AttributeError, InvalidArgument) as error:
            raise CorruptObject(f"not a schema: {value!r}") from error
