"""Philox against its published vectors, against numpy's 64-bit variant (through a second implementation) and against its contracts."""

import json
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import InvalidArgument
from dataplane.philox import Domain, bounded, derive, philox4x32, sample_stream, shuffle_steps, uniforms

DATA = Path(__file__).parents[1] / "data"
REFERENCE = runpy.run_path(str(DATA / "make_order_vectors.py"))
STREAMS = json.loads((DATA / "order_vectors.json").read_text(encoding="utf-8"))["streams"]

streams = st.integers(0, 2**63 - 1)
words32 = st.integers(0, 2**32 - 1)
patient = settings(deadline=None)


def doubles(stream: int, n: int) -> np.ndarray:
    out = np.full(n, np.nan)
    uniforms(stream, out)
    return out


# kat_vectors of Random123 1.14: counter, key, result.
@pytest.mark.parametrize(
    "vector",
    [
        "00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd",
        "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1",
    ],
)
def test_published_vectors(vector):
    numbers = tuple(int(word, 16) for word in vector.split())
    assert philox4x32(numbers[:4], numbers[4:6]) == numbers[6:]


@patient
@given(st.tuples(words32, words32, words32, words32), st.tuples(words32, words32))
def test_equals_the_reference(counter, key):
    assert philox4x32(counter, key) == REFERENCE["philox"](counter, key)


def test_the_reference_in_64_bits_equals_numpy():
    rng = np.random.default_rng(1)
    for _ in range(20):
        *counter, k0, k1 = (int(word) for word in rng.integers(0, 2**64, size=6, dtype=np.uint64))
        expected = REFERENCE["philox"]((counter[0] + 1, *counter[1:]), (k0, k1), width=64)  # numpy counts before it draws
        generator = np.random.Philox(key=np.array([k0, k1], np.uint64), counter=np.array(counter, np.uint64))
        assert tuple(int(word) for word in generator.random_raw(4)) == expected


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: str(case["domain"]))
def test_committed_streams(case):
    stream = derive(case["seed"], case["domain"], *case["words"])
    assert stream == case["stream"]
    assert [bounded(stream, index, n) for index, n, _ in case["bounded"]] == [value for _, _, value in case["bounded"]]
    assert doubles(stream, 3).tolist() == case["uniforms"]


@patient
@given(streams, st.integers(1, 2**16 - 1), words32, words32, st.integers(0, 2**48 - 1))
def test_derive_equals_the_reference(seed, domain, a, b, c):
    assert derive(seed, domain, a, b, c) == REFERENCE["derive"](seed, domain, a, b, c)


def test_derive_takes_every_word_into_account():
    calls = [(0, 1, 0, 0, 0), (1, 1, 0, 0, 0), (0, 2, 0, 0, 0), (0, 1, 1, 0, 0), (0, 1, 0, 1, 0), (0, 1, 0, 0, 1), (0, 1, 0, 0, 1 << 32)]
    assert len({derive(*call) for call in calls}) == len(calls)


@pytest.mark.parametrize(
    "call",
    [
        (-1, 1, 0, 0, 0),
        (0, 0, 0, 0, 0),
        (0, 2**16, 0, 0, 0),
        (0, 1, -1, 0, 0),
        (0, 1, 2**32, 0, 0),
        (0, 1, 0, 2**32, 0),
        (0, 1, 0, 0, 2**48),
    ],
)
def test_derive_refuses_words_that_would_be_cut_off(call):
    with pytest.raises(InvalidArgument, match="must be"):
        derive(*call)


@patient
@given(streams, st.integers(0, 2**40), st.one_of(st.integers(1, 1000), st.integers(2**61, 2**63 - 1)))
def test_bounded_equals_the_reference(stream, index, n):
    value = bounded(stream, index, n)
    assert 0 <= value < n
    assert value == REFERENCE["bounded"](stream, index, n)


def test_bounded_rejects_without_bias():
    # Of 2^64 bit patterns a quarter is rejected for this n; without rejection the thirds would come out at 3:3:2.
    n = 3 * 2**61
    stream = derive(5, Domain.SHARDS, 0, 0, 0)
    values = [bounded(stream, index, n) for index in range(6000)]
    assert values[:300] == [REFERENCE["bounded"](stream, index, n) for index in range(300)]
    thirds = Counter(value // 2**61 for value in values)
    assert sum((thirds[k] - 2000) ** 2 / 2000 for k in range(3)) < 13.8  # chi-square, 2 degrees of freedom, p = 0.001


@patient
@given(streams, st.integers(0, 30), st.lists(st.integers(0, 30), max_size=4))
def test_a_shuffle_can_be_continued(stream, size, stops):
    whole = np.arange(size)
    shuffle_steps(whole, 0, size, stream)
    assert whole.tolist() == REFERENCE["shuffled"](range(size), stream)

    parts, done = np.arange(size), 0
    for stop in [*sorted(min(stop, size) for stop in stops), size]:
        shuffle_steps(parts, done, stop, stream)
        done = stop
        assert parts[:done].tolist() == whole[:done].tolist()


def test_shuffles_are_uniform():
    seen = Counter()
    for k in range(24_000):
        values = np.arange(4)
        shuffle_steps(values, 0, 4, derive(k, Domain.WINDOW, 0, 0, 0))
        seen[tuple(values.tolist())] += 1
    assert len(seen) == 24
    assert sum((count - 1000) ** 2 / 1000 for count in seen.values()) < 49.8  # chi-square, 23 degrees of freedom, p = 0.001


@patient
@given(streams, st.integers(0, 9))
def test_uniforms_do_not_depend_on_how_many_are_asked_for(stream, n):
    assert doubles(stream, n).tolist() == [REFERENCE["uniform"](stream, index) for index in range(n)]


def test_uniforms_are_uniform():
    values = doubles(sample_stream(3, 0, 1, 99, 0), 100_000)
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values, bins=100, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 148.2  # chi-square, 99 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.011  # 3.5 standard errors


def test_sample_streams_differ_in_every_argument():
    calls = [(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1)]
    assert len({sample_stream(*call) for call in calls}) == len(calls)
    assert sample_stream(1, 2, 3, 4, 5) == REFERENCE["derive"](1, Domain.SAMPLE, 3, 2 << 16 | 5, 4)


@pytest.mark.parametrize("call", [(0, 2**16, 0, 0, 0), (0, -1, 0, 0, 0), (0, 0, 0, 0, 2**16), (0, 0, 2**32, 0, 0), (0, 0, 0, 2**48, 0)])
def test_sample_streams_refuse_what_would_be_cut_off(call):
    with pytest.raises(InvalidArgument, match="must be"):
        sample_stream(*call)


def test_order_and_sample_draws_read_different_blocks():
    """Even under one key: the largest bounded draw and the doubles expose the raw bits of their blocks."""
    raw = [[REFERENCE["draw"](12345, index, 0, use) for index in range(1000)] for use in (REFERENCE["BOUNDED"], REFERENCE["UNIFORM"])]
    assert not set(raw[0]) & set(raw[1])
    assert [bounded(12345, index, 2**62) for index in range(1000)] == [bits >> 2 for bits in raw[0]]
    assert doubles(12345, 1000).tolist() == [(bits >> 11) / 2**53 for bits in raw[1]]
