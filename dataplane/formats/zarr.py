"""Zarr shards: arrays of two or more dimensions, one Zarr array a field, the samples along its first axis.

A shard of the lake is one object, a zip file whose members are stored as they are: a group of Zarr version 3 that zarr-python opens
as a `ZipStore`. An array is sharded: a member holds a block of samples, and the inner chunk is what is read and decoded at once; each
ends in its CRC-32C. The index lists the members (see `zarr_members`), so a batch of any samples is one group of ranged requests.

Adopted arrays and groups, version 2 or 3, lie in a folder or a zip file as somebody else wrote them (see `zarr_adopt`).
"""

from __future__ import annotations

from dataplane.formats.index import ShardIndex
from dataplane.formats.zarr_adopt import Adopted, ArrayInfo, Listed, adopt_folder, adopt_zip, describe
from dataplane.formats.zarr_reader import Reader
from dataplane.formats.zarr_writer import SUFFIX, Writer
from dataplane.objects import Objects
from dataplane.refs import ObjectRef

__all__ = ["SUFFIX", "Adopted", "ArrayInfo", "Listed", "Reader", "Writer", "adopt_folder", "adopt_zip", "describe", "open"]


def open(objects: Objects, ref: ObjectRef, index: ShardIndex) -> Reader:
    """A shard, of the lake or adopted. Reads nothing yet."""
    return Reader(objects, ref, index)
