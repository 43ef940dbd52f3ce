"""What other programs put into tars, and what is wrong with some: each is understood, or named and left out."""

import bz2
import gzip
import io
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from dataplane.adopt import tars
from dataplane.adopt.windows import LOCAL, REMOTE
from dataplane.errors import CorruptObject
from dataplane.formats.compressed import Decompressing, compression_of
from dataplane.formats.tar import crc32c
from dataplane.formats.tarscan import HeaderScan


def member(name, data=b"", *, kind=b"0", size=None, magic=b"ustar\x0000", prefix=b""):
    """A header with a right checksum, and its payload."""
    header = bytearray(512)
    raw = name.encode() if isinstance(name, str) else name
    header[: len(raw)] = raw
    header[100:124] = b"0000644\0" * 3
    header[124:136] = b"%011o\0" % len(data) if size is None else size
    header[136:148] = b"00000000000\0"
    header[156:157] = kind
    header[257 : 257 + len(magic)] = magic
    header[345 : 345 + len(prefix)] = prefix
    return mended(header) + data + bytes(-len(data) % 512)


def mended(header):
    header = bytearray(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def records(**pairs):
    """PAX records; `_` in a name stands for a dot."""
    out = b""
    for key, value in pairs.items():
        body = b" " + key.replace("_", ".").encode() + b"=" + value.encode() + b"\n"
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        out += str(length).encode() + body
    return out


END = bytes(1024)


def scan(*pieces, end=END):
    data = b"".join(pieces) + end
    headers = HeaderScan(len(data))
    headers.feed(data, 0)
    assert headers.done
    return headers.contents(after=data[headers.position :])


def told(contents):
    return {bad.name: bad.reason for bad in contents.bad}


@pytest.mark.parametrize(
    ("pieces", "name", "word"),
    [
        ([member("../a.jpg", b"x")], "../a.jpg", "outside"),
        ([member("x/../../a.jpg", b"x")], "x/../../a.jpg", "outside"),
        ([member("/etc/a.jpg", b"x")], "/etc/a.jpg", "absolute"),
        ([member("a.jpg", kind=b"1")], "a.jpg", "hard link"),
        ([member("a.jpg", kind=b"2")], "a.jpg", "symbolic link"),
        ([member("a.jpg", kind=b"3")], "a.jpg", "device"),
        ([member("a.jpg", kind=b"6")], "a.jpg", "FIFO"),
        ([member("a.jpg", b"x" * 600, kind=b"S")], "a.jpg", "sparse"),
        ([member("h", records(GNU_sparse_name="a.jpg"), kind=b"x"), member("GNUSparse.0/a.jpg", b"x")], "a.jpg", "sparse"),
        ([member("a.jpg", b"x", kind=b"Z")], "a.jpg", "no plain file"),
        ([member("a.jpg", b"x"), member("a.cls", b"1"), member("a.JPG", b"y")], "a.JPG", "second field"),
        ([member("", b"x")], "", "without a name"),
        ([member("x/.", b"x")], "x/.", "without a name"),
    ],
)
def test_a_sample_that_is_not_right_is_named_and_the_others_stay(pieces, name, word):
    contents = scan(member("0.jpg", b"first"), *pieces, member("z.jpg", b"last"))
    assert contents.keys.to_pylist() == ["0", "z"]
    assert list(told(contents)) == [name]
    assert word in told(contents)[name]
    assert contents.problem is None


def test_a_key_that_comes_again_later_is_left_out():
    contents = scan(member("a.jpg", b"1"), member("b.jpg", b"2"), member("a.jpg", b"3"))
    assert contents.keys.to_pylist() == ["a", "b"]
    assert contents.fields["jpg"].offset.tolist() == [512, 1536]
    assert "earlier sample" in told(contents)["a.jpg"]


def test_names_of_all_kinds():
    long = "d" * 150 + "/long.jpg"
    contents = scan(
        member("./a.seg.PNG", b"1"),
        member("dir/", kind=b"5"),
        member("old/", magic=b"", kind=b"\0"),
        member("x/.hidden/b.jpg", b"2"),
        member("__meta__/c.jpg", b"3"),
        member("plain", b"4"),
        member("b.jpg", b"5", prefix=b"deep/er"),
        member("c.jpg", b"6", magic=b"ustar  \0", prefix=b"12345670"),
        member("././@LongLink", long.encode() + b"\0", kind=b"L"),
        member("ignored", b"7"),
        member("h", records(mtime="1.5", path="p/é.jpg"), kind=b"x"),
        member("ignored", b"8"),
        member(b"caf\xe9.jpg", b"9"),
        member("v.jpg", b"contiguous", kind=b"7"),
    )
    assert told(contents) == {}
    assert contents.keys.to_pylist() == ["a", "plain", "deep/er/b", "c", "d" * 150 + "/long", "p/é", "caf\\xe9", "v"]
    assert list(contents.fields) == ["data", "jpg", "seg.png"]
    assert contents.ignored == 2
    assert contents.fields["data"].size.tolist() == [-1, 1, -1, -1, -1, -1, -1, -1]


def test_sizes_of_all_kinds():
    huge = 9 << 30
    binary = b"\x80" + huge.to_bytes(11, "big")
    contents = scan(member("a.bin", size=binary), end=b"")
    assert "truncated" in told(contents)["a.bin"]
    contents = scan(member("h", records(size="700"), kind=b"x"), member("a.bin", b"x" * 700, size=b"00000000000\0"), member("b.bin", b"y"))
    assert contents.fields["bin"].size.tolist() == [700, 1]
    for size in (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"9" * 11 + b"\0", b"-0000000001\0"):
        contents = scan(member("a.jpg", b"1"), member("b.jpg", size=size), member("c.jpg", b"3"))
        assert contents.keys.to_pylist() == ["a"]
        assert "no number" in contents.problem


@pytest.mark.parametrize(
    ("piece", "word"),
    [
        (member("h", kind=b"x", size=b"%011o\0" % (1 << 30)), "1 MiB"),
        (member("h", b"99 path=a\n", kind=b"x"), "PAX records"),
        (member("h", b"6 path\n", kind=b"x"), "PAX records"),
        (member("h", records(path="same.jpg"), kind=b"g"), "global"),
        (mended(member("b.jpg"))[:140] + b"damage" + bytes(366), "checksum"),
    ],
)
def test_damage_ends_the_archive_and_says_where(piece, word):
    contents = scan(member("a.jpg", b"1"), piece, member("c.jpg", b"3"))
    assert contents.keys.to_pylist() == ["a"]
    assert word in contents.problem
    assert "byte 1024" in contents.problem


def test_a_global_header_of_other_things_is_passed_over():
    assert scan(member("h", records(comment="x"), kind=b"g"), member("a.jpg", b"1")).keys.to_pylist() == ["a"]


def sparse(name, blocks):
    """A sparse member as GNU tar wrote it, whose list of holes goes on in so many blocks."""
    header = bytearray(member(name, b"x" * 600, kind=b"S"))
    header[482] = blocks > 0
    more = [bytearray(512) for _ in range(blocks)]
    for block in more[:-1]:
        block[504] = 1
    return mended(header[:512]) + b"".join(map(bytes, more)) + bytes(header[512:])


def signed(piece):
    """The same member with the checksum of a program that took bytes for signed numbers."""
    header = bytearray(piece[:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in header)
    return bytes(header) + piece[512:]


def test_a_sparse_member_with_a_long_list_of_holes_does_not_hide_what_follows():
    contents = scan(member("a.jpg", b"1"), sparse("b.jpg", 3), member("c.jpg", b"3"))
    assert contents.keys.to_pylist() == ["a", "c"]
    assert contents.fields["jpg"].offset.tolist() == [512, 1024 + 512 + 3 * 512 + 1024 + 512]
    assert "sparse" in told(contents)["b.jpg"]


def test_a_checksum_over_signed_bytes_is_right_too():
    assert scan(signed(member("é.jpg", b"1")), member("b.jpg", b"2")).keys.to_pylist() == ["é", "b"]


def test_the_target_of_a_long_link_is_no_name():
    contents = scan(member("././@LongLink", b"target\0", kind=b"K"), member("a.jpg", kind=b"2"), member("b.jpg", b"2"))
    assert contents.keys.to_pylist() == ["b"]
    assert list(told(contents)) == ["a.jpg"]


def test_of_several_extended_headers_the_first_has_the_last_word():
    first, second = (member("h", records(path=path, size=size), kind=b"x") for path, size in (("one.jpg", "3"), ("two.jpg", "4")))
    contents = scan(first, second, member("ignored", b"abcde"), member("z.jpg", b"z"))
    assert contents.keys.to_pylist() == ["one", "z"]
    assert contents.fields["jpg"].size.tolist() == [3, 1]


@pytest.mark.parametrize(("end", "word"), [(END, "checksum"), (b"", "inside the header")])
def test_an_archive_cannot_end_behind_an_extended_header(end, word):
    contents = scan(member("a.jpg", b"1"), member("h", records(path="b.jpg"), kind=b"x"), end=end)
    assert contents.keys.to_pylist() == ["a"]
    assert word in contents.problem
    assert "byte 1024" in contents.problem


def test_an_odd_archive_cut_at_any_byte_or_read_in_small_windows_gives_the_same_samples():
    pieces = [
        member("h", records(path="one.jpg", size="700"), kind=b"x") + member("ignored", b"x" * 700, size=b"0" * 11 + b"\0"),
        member("././@LongLink", b"d" * 150 + b"/two.jpg\0", kind=b"L") + member("ignored", b"2"),
        sparse("three.jpg", 2),
        member("four.jpg", kind=b"1"),
        member("../five.jpg", b"5"),
        member("one.jpg", b"again"),
        member("six.jpg", b"6" * 513),
    ]
    data = b"".join(pieces) + END
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    good = {ends[0]: "one", ends[1]: "d" * 150 + "/two", ends[6]: "six"}
    for size in [*range(0, 600, 7), *(at + step for at in range(512, len(data), 512) for step in (-1, 0, 1, 300))]:
        headers = HeaderScan(size)
        while not headers.done:
            headers.feed(data[headers.position : min(headers.need, size)], headers.position)
        contents = headers.contents(after=data[headers.position : size])
        padding = 511  # the last bytes of a member's last block are nothing
        assert set(contents.keys.to_pylist()) <= {key for end, key in good.items() if end - padding <= size}
        assert set(contents.keys.to_pylist()) >= {key for end, key in good.items() if end <= size}
        assert (contents.problem is None) == (size >= ends[-1] + 512)


def test_keys_that_are_one_only_as_text_or_only_in_unicodes_lower_case():
    contents = scan(member(b"caf\xe9.jpg", b"1"), member("caf\\xe9.jpg", b"2"), member("a.K", b"3"), member("b.\u212a", b"4"))
    assert contents.keys.to_pylist() == ["caf\\xe9", "a", "b"]
    assert "earlier sample" in told(contents)["caf\\xe9.jpg"]
    assert contents.fields["k"].size.tolist() == [-1, 1, 1]


@pytest.mark.parametrize(("one", "other"), [("x", "x.data"), ("x.data", "x"), ("x.", "x.DATA"), ("x.K", "x.\u212a"), ("x.\u212a", "x.k")])
def test_a_field_that_comes_twice_under_two_spellings_is_not_lost_in_silence(one, other):
    first, *others = (member(name, b"1") for name in ("a.data", "b", "c.k", "d.\u212a"))
    contents = scan(first, member(one, b"1"), member(other, b"22"), *others)
    assert contents.keys.to_pylist() == ["a", "b", "c", "d"]
    assert {name: field.size.tolist() for name, field in contents.fields.items()} == {"data": [1, 1, -1, -1], "k": [-1, -1, 1, 1]}
    assert list(told(contents)) == [other]
    assert "second field" in told(contents)[other]


def test_more_members_and_names_than_the_tables_begin_with(monkeypatch):
    monkeypatch.setattr("dataplane.formats.tarscan._ROWS", 2)
    monkeypatch.setattr("dataplane.formats.tarscan._NAME_BYTES", (1 << 20) + 10)
    names = [f"{n:03d}/{'x' * 60}.jpg" for n in range(100)]
    long = "d" * 900_000
    extended = [member("././@LongLink", f"{long}{n}.jpg".encode() + b"\0", kind=b"L") + member("ignored", b"y") for n in range(4)]
    contents = scan(*(member(name, b"x") for name in names), *extended)
    assert contents.problem is None
    assert contents.keys.to_pylist() == [name[:-4] for name in names] + [f"{long}{n}" for n in range(4)]
    assert contents.fields["jpg"].offset.tolist()[:3] == [512, 1536, 2560]


def test_archives_joined_end_to_end_are_told():
    contents = scan(member("a.jpg", b"1"), END, member("b.jpg", b"2"))
    assert contents.keys.to_pylist() == ["a"]
    assert "joined end to end" in contents.problem


def test_the_last_sample_of_a_truncated_archive_is_left_out_where_fields_are_missing():
    samples = [member(f"{key}.{name}", b"x") for key in "abc" for name in ("cls", "jpg")]
    assert scan(*samples).keys.to_pylist() == ["a", "b", "c"]
    contents = scan(*samples[:-1], end=b"")
    assert contents.keys.to_pylist() == ["a", "b"]
    assert "missing" in told(contents)["c.cls"]
    assert "without the end marker" in contents.problem
    contents = scan(*samples, end=b"")
    assert contents.keys.to_pylist() == ["a", "b", "c"]


def test_more_extensions_than_fields_make_sense():
    contents = scan(*(member(f"img.{n:04d}", b"x") for n in range(300)))
    assert len(contents) == 0
    assert "256" in contents.problem


def test_what_is_no_tar_is_told():
    assert "not a tar" in scan(b"\xff" * 512).problem
    assert scan(b"", end=b"").problem == "it ends at byte 0 without the end marker, so it may be truncated"


# ------------------------------------------------------------------ where it lies


class Bytes:
    """An object that counts what is fetched of it."""

    def __init__(self, data):
        self.data, self.fetched, self.requests = data, 0, 0

    def __call__(self, start, length):
        piece = self.data[start : start + length]
        self.fetched += len(piece)
        self.requests += 1
        return piece


def photos(count=50, size=200_000):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for n in range(count):
            for name, data in (("cls", b"1"), ("jpg", np.random.default_rng(n).bytes(size))):
                info = tarfile.TarInfo(f"{n:04d}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.parametrize("costs", [LOCAL, REMOTE])
def test_only_headers_of_large_members_are_fetched(costs):
    data = photos()
    source = Bytes(data)
    contents = tars.scan(source, len(data), costs, head=source(0, 65536), where="x")
    assert len(contents) == 50
    assert contents.problem is None
    assert source.fetched < len(data) // 20
    assert source.requests <= 55


@pytest.mark.parametrize("costs", [LOCAL, REMOTE])
def test_small_members_take_few_requests(costs):
    data = photos(2000, 900)
    source = Bytes(data)
    assert len(tars.scan(source, len(data), costs, head=source(0, 65536), where="x")) == 2000
    assert source.requests < 15


PACKED = {"gzip": gzip.compress, "bz2": bz2.compress, "zstd": lambda data: pa.compress(data, "zstd", asbytes=True)}


@pytest.mark.parametrize("kind", PACKED)
def test_a_compressed_tar_is_scanned_through(kind):
    data = photos(20, 70_000)
    packed = Bytes(PACKED[kind](data))
    assert compression_of(packed.data) == kind
    plain = tars.scan(Bytes(data), len(data), LOCAL, head=data[:65536], where="x")
    contents = tars.scan_compressed(packed, len(packed.data), kind, where="x")
    assert contents.problem is None
    assert contents.keys.equals(plain.keys)
    for name, field in plain.fields.items():
        assert contents.fields[name].offset.tolist() == field.offset.tolist()
    checks = tars.verify(packed, len(packed.data), kind, contents, where="x")
    field = contents.fields["jpg"]
    assert checks.crc32c["jpg"].tolist() == [crc32c(data[o : o + s]) for o, s in zip(field.offset, field.size, strict=True)]


@pytest.mark.parametrize("kind", PACKED)
def test_a_truncated_or_damaged_stream_keeps_the_good_samples(kind):
    data = photos(40, 70_000)
    packed = PACKED[kind](data)
    half = len(packed) // 2
    damaged = packed[:half] + bytes(1000) + packed[half + 1000 :]  # zstd has no checksum unless asked for
    for broken in (packed[:half], packed[:half] if kind == "zstd" else damaged):
        contents = tars.scan_compressed(Bytes(broken), len(broken), kind, where="x")
        assert contents.problem is not None
        assert 0 < len(contents) < 40
        field = contents.fields["jpg"]
        expected = [crc32c(data[o : o + s]) for o, s in zip(field.offset, field.size, strict=True)]
        assert tars.verify(Bytes(broken), len(broken), kind, contents, where="x").crc32c["jpg"].tolist() == expected
    with pytest.raises(CorruptObject, match="x is damaged"):
        Decompressing(Bytes(packed[:100]), 100, kind, where="x").read(len(data))
