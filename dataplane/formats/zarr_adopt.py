"""Zarr arrays and groups that lie somewhere already, version 2 or 3, as shards: a folder of many objects, or one zip file.

Only metadata documents are read. A chunk that is not there means the fill value, as Zarr says; a chunk that was there when the shard was
adopted, and is gone later, is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dataplane.errors import InvalidArgument, NotFound
from dataplane.formats.index import write_keys
from dataplane.formats.zarr_fetch import Place, fetch
from dataplane.formats.zarr_layout import ATTRIBUTES, DOCUMENTS, Layout, layout_of
from dataplane.formats.zarr_members import SECTION, Member, Members, Packing
from dataplane.formats.zarr_pack import members_of_zip
from dataplane.objects import Objects
from dataplane.refs import Foreign

__all__ = ["Adopted", "ArrayInfo", "Listed", "adopt_folder", "adopt_zip", "describe", "members_of_folder"]


class Listed(NamedTuple):
    """One object of a listing: its name below the URL that is adopted, its size in bytes, and its etag."""

    name: str
    size: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """One array, as people want to know it. `shape` has the sample axis first; `unit` is what is read at once; `bytes` as stored."""

    field: str
    path: str
    format: int
    dtype: str
    shape: tuple[int, ...]
    unit: tuple[int, ...]
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Adopted:
    """An array or group as a shard: what stands for it in the manifest, the bytes of its index, and what is in it."""

    ref: Foreign
    index: bytes
    keys: Sequence[str]
    arrays: tuple[ArrayInfo, ...]


def adopt_folder(objects: Objects, url: str, listed: Sequence[Listed], *, arrays: Sequence[str] | None = None, prefix: str = "") -> Adopted:
    """An array or group that lies as many objects below `url`, from what a listing gave.

    `arrays`: the fields to take (see `describe`), by default all. The key of a sample is `prefix` and its number, unless one of our writers
    kept the keys. Raises `NotFound` where there is no array, `CorruptObject` for metadata that cannot be read, and `InvalidArgument` where
    arrays have different lengths along the first axis, or need a codec that this installation lacks.
    """
    members = _with_documents(objects, Foreign(url, 0), members_of_folder(listed), "folder")
    size = sum(member.size for member in members)
    return _adopt(Foreign(url, size), members, "folder", arrays, prefix)


def adopt_zip(objects: Objects, ref: Foreign, *, arrays: Sequence[str] | None = None, prefix: str = "") -> Adopted:
    """An array or group in a zip file whose members are stored as they are, as `zarr.storage.ZipStore` writes it; see `adopt_folder`."""
    return _adopt(ref, _with_documents(objects, ref, members_of_zip(objects, ref), "zip"), "zip", arrays, prefix)


def members_of_folder(listed: Sequence[Listed]) -> list[Member]:
    """The members that a listing shows."""
    return [Member(one.name, one.size, etag=one.etag) for one in listed]


def describe(documents: Mapping[str, bytes], *, where: str, arrays: Sequence[str] | None = None) -> list[ArrayInfo]:
    """The arrays that metadata documents, by their names, describe, or just some of them. `where` names them in errors.

    A field is named as its path, with dots for slashes, and an array at the root as the last part of `where`. Arrays without axes
    (scalars) have no samples and are left out.
    """
    layouts = _layouts(documents, where)
    have = ", ".join(f"{field} {list(layout.shape)}" for field, layout in layouts)
    for name in arrays or ():
        if name not in dict(layouts):
            raise NotFound(f"{where} has no array {name!r}; it has {have or 'none'}")
    return [
        ArrayInfo(field, layout.path, layout.format, _dtype(layout, where), layout.shape, layout.unit)
        for field, layout in layouts
        if arrays is None or field in arrays
    ]


def _layouts(documents: Mapping[str, bytes], where: str) -> list[tuple[str, Layout]]:
    """All arrays, by their fields. Raises `InvalidArgument` where two would be one field."""
    found: dict[str, Layout] = {}
    for name, data in sorted(documents.items()):
        path, _, last = name.rpartition("/")
        if (last == ".zarray" or (last == "zarr.json" and _is_array(data))) and not _is_scalar(data):
            field, layout = _field_name(path, where), layout_of(path, data, where=f"{where}: {name}")
            if field in found and found[field].path != path:
                both = f"{found[field].path!r} and {path!r}"
                raise InvalidArgument(f"{where}: the arrays {both} would both become the field {field!r}; adopt them one by one")
            found[field] = layout
    return list(found.items())


def _adopt(ref: Foreign, members: Sequence[Member], packing: Packing, arrays: Sequence[str] | None, prefix: str) -> Adopted:
    documents = {member.name: member.data for member in members if member.data is not None}
    infos = describe(documents, where=ref.url, arrays=arrays)
    samples = _length(infos, ref.url)
    kept = [member for member in members if member.data is not None or any(_below(info.path, member.name) for info in infos)]
    sizes = {info.path: sum(m.size for m in kept if m.data is None and _below(info.path, m.name)) for info in infos}
    fields = {info.field: info.path for info in infos}
    table = Members.of(kept, packing=packing, fields=fields, where=ref.url)
    keys = _keys(documents.get("zarr.json"), samples) or [f"{prefix}{row:08d}" for row in range(samples)]
    return Adopted(ref, write_keys(keys, {SECTION: table.write()}), keys, tuple(replace(info, bytes=sizes[info.path]) for info in infos))


def _length(infos: Sequence[ArrayInfo], where: str) -> int:
    """How many samples the arrays have. Raises where there are none, or they differ."""
    if not infos:
        raise NotFound(f"{where} holds no Zarr array: no zarr.json or .zarray with at least one axis lies there")
    if len({info.shape[0] for info in infos}) > 1:
        have = ", ".join(f"{info.field} {list(info.shape)}" for info in infos)
        raise InvalidArgument(f"{where}: the arrays differ in length along the first axis, that of samples: {have}; name those to adopt")
    return infos[0].shape[0]


def _with_documents(objects: Objects, ref: Foreign, members: Sequence[Member], packing: Packing) -> list[Member]:
    """The members, with the bytes of those that are metadata documents."""
    table = Members.of(members, packing=packing, fields={}, where=ref.url)
    wanted = [member for member in members if member.name.rpartition("/")[2] in DOCUMENTS]
    places = [Place(table.object_of(ref, m), m.offset, m.size, m.name, m.crc32) for m in wanted]
    data = {member.name: bytes(piece) for member, piece in zip(wanted, fetch(objects, places), strict=True)}
    return [replace(member, data=data.get(member.name)) for member in members]


def _is_array(data: bytes) -> bool:
    document = _json(data)
    return isinstance(document, dict) and document.get("node_type") == "array"


def _is_scalar(data: bytes) -> bool:
    document = _json(data)
    return isinstance(document, dict) and document.get("shape") == []


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _field_name(path: str, where: str) -> str:
    """The name of the field for an array at `path`; one at the root is called as its folder or file."""
    if path:
        return path.replace("/", ".")
    last = where.rstrip("/").rpartition("/")[2]
    for suffix in (".zip", ".zarr"):
        last = last.removesuffix(suffix)
    return last or "array"


def _dtype(layout: Layout, where: str) -> str:
    """The dtype of an array, as numpy calls it. Raises `InvalidArgument` where zarr-python cannot read it here, a codec being missing."""
    from dataplane.formats.zarr_store import dtype_of

    try:
        return dtype_of(layout)
    except Exception as error:
        raise InvalidArgument(
            f"{where}: the array {layout.path or '(root)'!r} cannot be read by this installation: {error}; "
            "install the package that brings the codec, or write the array anew without it"
        ) from error


def _below(path: str, name: str) -> bool:
    return not path or name.startswith(f"{path}/")


def _keys(group: bytes | None, samples: int) -> list[str] | None:
    """The keys that one of our writers kept in the group, where they fit."""
    noted = (_json(group) or {}).get("attributes", {}).get(ATTRIBUTES, {}) if group else {}
    keys = noted.get("keys") if isinstance(noted, dict) else None
    if isinstance(keys, list) and len(keys) == samples and all(isinstance(key, str) for key in keys):
        return keys
    return None
