"""The header scan against tarfile and webdataset, over archives of every kind; and any bytes whatever end in an answer."""

import io
import tarfile
from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from dataplane.formats.tarnames import rising
from dataplane.formats.tarscan import HeaderScan

patient = settings(deadline=None)

FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
letters = st.text("abcé_-", min_size=1, max_size=6)
folders = st.lists(st.one_of(letters, st.just("f" * 60)), max_size=3).map(lambda parts: "".join(f"{part}/" for part in parts))
extensions = st.sampled_from(["jpg", "cls", "JPG", "seg.png", "json"])
names = st.builds(lambda folder, key, ext: f"{folder}{key}.{ext}", folders, letters, extensions)
files = st.lists(st.tuples(names, st.binary(max_size=1300), st.sampled_from([0, 1.5, 2**33])), max_size=12)


def archive(members, form):
    """A tar of (name, bytes, modification time), and what of it could be written in this form."""
    sink, written = io.BytesIO(), []
    with tarfile.open(fileobj=sink, mode="w", format=form) as tar:
        for name, data, mtime in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError:  # a name that ustar cannot hold
                continue
            written.append((name, data))
    return sink.getvalue(), written


def scan(data, window=None):
    """Scan `data`, given whole or in windows that begin where the scan is."""
    headers = HeaderScan(len(data))
    steps = 0
    while not headers.done:
        start = 0 if window is None else headers.position
        end = len(data) if window is None else max(headers.need, start + window)
        headers.feed(data[start:end], start)
        steps += 1
        assert steps <= 1 + len(data) // 512
    return headers, headers.contents(after=data[headers.position :])


def samples(contents, data):
    """Key to fields, read from where the scan says they lie."""
    return {
        key: {
            name: data[places.offset[row] : places.offset[row] + places.size[row]]
            for name, places in contents.fields.items()
            if places.size[row] >= 0
        }
        for row, key in enumerate(contents.keys.to_pylist())
    }


@patient
@given(files, FORMATS, st.sampled_from([None, 512, 2048]))
def test_as_tarfile_and_webdataset_read_it(members, form, window):
    data, _ = archive(members, form)
    _, contents = scan(data, window)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert contents.members == len(tar.getmembers())
    assert contents.problem is None
    stream = [{"url": "x.tar", "stream": io.BytesIO(data)}]
    seen, twice, expected = set(), set(), {}
    try:
        for sample in group_by_keys(tar_file_expander(stream)):
            key = sample["__key__"]
            if key not in seen:
                expected[key] = {name: value for name, value in sample.items() if not name.startswith("__")}
            twice |= {key} & seen
            seen.add(key)
    except ValueError:  # it knows no sample with one field twice
        assert any("second field" in bad.reason for bad in contents.bad)
    else:
        assert samples(contents, data) == expected
        assert bool(contents.bad) == bool(twice)


@patient
@given(files, FORMATS, st.data())
def test_truncated_anywhere_good_samples_stay_and_it_is_told(members, form, draw):
    data, _ = archive(members, form)
    _, whole = scan(data)
    headers, _ = scan(data)
    end = draw.draw(st.integers(0, headers.position))
    cut, contents = scan(data[:end])
    assert cut.done
    assert contents.problem is not None
    complete = samples(whole, data)
    for key, fields in samples(contents, data[:end]).items():
        if key in complete:
            assert fields.items() <= complete[key].items()
        else:
            assert whole.bad


@patient
@given(st.binary(max_size=4000))
@example(b"\x80" * 512)
def test_any_bytes_end_in_an_answer(data):
    _, contents = scan(data)
    assert contents.problem is not None or not data[:512].strip(b"\0")


@settings(deadline=None, max_examples=300)
@given(files, FORMATS, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_damaged_archives_end_in_an_answer(members, form, edits, mend):
    data, _ = archive(members, form)
    broken = bytearray(data)
    for at, value in edits:
        broken[at % len(broken)] = value
    if mend:  # as somebody who means harm: every header's checksum is right
        for at in range(0, len(broken) - 511, 512):
            if broken[at + 257 : at + 262] == b"ustar":
                broken[at + 148 : at + 156] = b" " * 8
                broken[at + 148 : at + 156] = b"%06o\0 " % sum(broken[at : at + 512])
    _, contents = scan(bytes(broken))
    for places in contents.fields.values():
        there = places.size >= 0
        assert np.all(places.offset[there] >= 0)
        assert np.all(places.offset[there] + places.size[there] <= len(broken))


@patient
@given(st.lists(st.binary(max_size=4), max_size=6), st.booleans())
def test_rising_texts_are_told(texts, in_order):
    texts = sorted(set(texts)) if in_order else texts
    offsets = np.cumsum([0, *map(len, texts)])
    expected = all(a < b for a, b in pairwise(texts))
    assert rising(offsets, np.frombuffer(b"".join(texts) or b"\0", np.uint8)) == expected
