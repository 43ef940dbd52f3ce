"""Arrow's columns as NumPy arrays: the values that Arrow gives itself, wherever the column is cut."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.arrays import numbers, one_array, valid

TYPES = {pa.uint8(): (0, 2**8 - 1), pa.int32(): (-(2**31), 2**31 - 1), pa.uint32(): (0, 2**32 - 1), pa.int64(): (-(2**63), 2**63 - 1)}


@st.composite
def columns(draw, *, nulls):
    """A chunked array that begins somewhere in its buffers."""
    kind = draw(st.sampled_from(list(TYPES)))
    value = st.integers(*TYPES[kind])
    values = draw(st.lists(st.one_of(st.none(), value) if nulls else value, max_size=40))
    array = pa.array(values, kind)[draw(st.integers(0, len(values))) :]
    cut = draw(st.integers(0, len(array)))
    return pa.chunked_array(draw(st.sampled_from([[array], [array[:cut], array[cut:]]])), kind)


@given(columns(nulls=False))
def test_numbers_are_those_of_the_column(column):
    found = numbers(column)
    assert found.tolist() == column.to_pylist()
    assert found.dtype == column.type.to_pandas_dtype()
    assert numbers(column, null=-1).tolist() == column.to_pylist()


@given(columns(nulls=True))
def test_nulls_become_what_is_asked_for(column):
    values = column.to_pylist()
    assert numbers(column, null=-1).tolist() == [-1 if value is None else value for value in values]
    assert valid(one_array(column)).tolist() == [value is not None for value in values]


def test_without_memory_of_its_own():
    column = pa.chunked_array([pa.array(range(5))])
    assert numbers(column).ctypes.data == column.chunk(0).buffers()[1].address


def test_nulls_that_nobody_expects_are_an_error():
    with pytest.raises(ValueError, match="has 1 nulls"):
        numbers(pa.chunked_array([pa.array([1, None])]))


def test_a_column_of_no_chunks():
    assert numbers(pa.chunked_array([], pa.int32())).tolist() == []
