"""One byte form for a value."""

import pytest

from dataplane.canonical import canonical_json


def test_keys_are_sorted_and_nothing_is_padded():
    assert canonical_json({"b": [1, 2.5, None], "a": {"ü": True}}) == '{"a":{"ü":true},"b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)
