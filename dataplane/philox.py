"""Random numbers as a pure function: Philox4x32-10 and the streams built on it.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11) maps a 128-bit counter under a
64-bit key to 128 random bits. Nothing is stateful, so any number of any stream can be computed anywhere, in any order.

A **stream** is a 63-bit key (so that it is a plain int64 wherever it travels). `derive` makes one from a seed and a few words; `bounded`
and `uniforms` draw from one by counting. The last counter word keeps the uses apart, so that no two of them ever put the same
(counter, key) into Philox:

=============  =============  =============  =============  =================================  =========
use            word 0         word 1         word 2         word 3                             key
=============  =============  =============  =============  =================================  =========
`derive`       b              a              c, bits 0-31   domain << 16 | c, bits 32-47       seed
`bounded`      block, low     block, high    attempt        0                                  stream
`uniforms`     block, low     block, high    0              1                                  stream
=============  =============  =============  =============  =================================  =========

A domain is at least 1, so a derivation never equals a draw, and different (domain, a, b, c) of one seed are different blocks. The order
draws with `bounded` only and a sample's parameters come from `uniforms` only: even if two keys met by chance (2^-63 for a pair), the two
would read different blocks. Order and sample streams therefore never coincide.

Every function here can be called from Python and from compiled code, keeps no state and is thread-safe; all but `sample_stream` release
the GIL. Results are the same on every platform: integers only, and one exact scaling to double.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dataplane.errors import InvalidArgument
from dataplane.jit import brief, compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

Word: TypeAlias = int | np.uint64

__all__ = ["Domain", "bounded", "derive", "philox4x32", "sample_stream", "shuffle_steps", "uniforms"]


class Domain(IntEnum):
    """What a stream is for. The numbers are part of the order's definition: never change or reuse one."""

    SHARDS = 1
    """Permutation of the shards: words (epoch, 0, 0)."""
    WINDOW = 2
    """Permutation of one window of a lane: words (epoch, lane, window)."""
    SAMPLE = 3
    """Parameters of one operation on one sample: words (epoch, component << 16 | op, position)."""
    SUBSTITUTE = 4
    """What is delivered in place of a bad sample: words (epoch, attempt, position)."""
    BATCH = 5
    """How the samples of one batch are mixed: words (epoch, 0, position of its first sample)."""
    BLEND = 6
    """In which of its phases each lane shares its slots out to the components of a mixture: words (node, 0, 0)."""
    COMPONENT = 7
    """The seed of a component of a mixture, for its orders and substitutes: words (component, 0, 0)."""
    STREAM = 8
    """Permutation of the shards that an epoch's stream of tokens is laid out of: words (epoch, 0, 0)."""


_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_16 = np.uint64(16)
_11 = np.uint64(11)
_0 = np.uint64(0)
_1 = np.uint64(1)

_BOUNDED = np.uint64(0)
_UNIFORM = np.uint64(1)
_SAMPLE = int(Domain.SAMPLE)
_TO_DOUBLE = 2.0**-53


@compiled
def philox4x32(counter: tuple[Word, Word, Word, Word], key: tuple[Word, Word]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x32. Counter, key and result consist of 32-bit words."""
    x0, x1, x2, x3 = np.uint64(counter[0]), np.uint64(counter[1]), np.uint64(counter[2]), np.uint64(counter[3])
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(10):
        p0, p1 = _M0 * x0, _M1 * x2
        x0, x1, x2, x3 = (p1 >> _32) ^ x1 ^ k0, p1 & _LOW, (p0 >> _32) ^ x3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return int(x0), int(x1), int(x2), int(x3)


@compiled
def derive(seed: int, domain: int, a: int, b: int, c: int) -> int:
    """The stream of (seed, domain, a, b, c): one Philox call.

    0 <= seed < 2^63, 1 <= domain < 2^16, 0 <= a, b < 2^32, 0 <= c < 2^48; raises `InvalidArgument` outside, since bits cut off would
    make streams coincide.
    """
    if seed < 0:
        raise InvalidArgument("a seed must be 0 ≤ seed < 2^63; this one is negative")
    if domain < 1 or domain >= 1 << 16:
        raise InvalidArgument("the domain of a stream must be 1 ≤ domain < 2^16: take a member of dataplane.philox.Domain")
    if a < 0 or a >= 1 << 32 or b < 0 or b >= 1 << 32 or c < 0 or c >= 1 << 48:
        raise InvalidArgument("the words of a stream (epoch, lane, position …) must be 0 ≤ a < 2^32, 0 ≤ b < 2^32 and 0 ≤ c < 2^48")
    key, low = np.uint64(seed), np.uint64(c)
    counter = (np.uint64(b), np.uint64(a), low & _LOW, np.uint64(domain) << _16 | low >> _32)
    words = philox4x32(counter, (key & _LOW, key >> _32))
    return int((np.uint64(words[1]) << _32 | np.uint64(words[0])) >> _1)


@brief
def sample_stream(seed: int, component: int, epoch: int, position: int, op: int) -> int:
    """The stream of one operation on one sample, to be read with `uniforms`.

    `component` is the dataset's place in a mixture (0 without one), `epoch` and `position` are the component's own, `op` is the ordinal of
    the operation in the transform. 0 <= component, op < 2^16, 0 <= epoch < 2^32, 0 <= position < 2^48; else `InvalidArgument`.
    """
    if component < 0 or component >= 1 << 16 or op < 0 or op >= 1 << 16:
        raise InvalidArgument("component and op of a sample's stream must be 0 ≤ number < 2^16")
    return derive(seed, _SAMPLE, epoch, component << 16 | op, position)


@compiled
def _pair(stream: np.uint64, block: np.uint64, attempt: np.uint64, use: np.uint64) -> tuple[np.uint64, np.uint64]:
    """One block of a stream as two 64-bit numbers."""
    words = philox4x32((block & _LOW, block >> _32, attempt, use), (stream & _LOW, stream >> _32))
    return np.uint64(words[1]) << _32 | np.uint64(words[0]), np.uint64(words[3]) << _32 | np.uint64(words[2])


@compiled
def _multiply(x: np.uint64, y: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The high and the low 64 bits of x · y."""
    x0, x1, y0, y1 = x & _LOW, x >> _32, y & _LOW, y >> _32
    low = x0 * y0
    middle = x1 * y0 + (low >> _32)
    cross = x0 * y1 + (middle & _LOW)
    return x1 * y1 + (middle >> _32) + (cross >> _32), (cross & _LOW) << _32 | low & _LOW


@compiled
def _scale(stream: np.uint64, index: np.uint64, bits: np.uint64, n: np.uint64) -> np.uint64:
    """64 random bits scaled to [0, n) without bias; rejected bits (n chances in 2^64) are replaced by those of the next attempt."""
    high, low = _multiply(bits, n)
    if low < n:
        threshold = (~n + _1) % n
        attempt = _0
        while low < threshold:
            attempt += _1
            first, second = _pair(stream, index >> _1, attempt, _BOUNDED)
            high, low = _multiply(second if index & _1 else first, n)
    return high


@compiled
def bounded(stream: int, index: int, n: int) -> int:
    """Number `index` of a stream as an unbiased integer in [0, n); 0 <= index, 1 <= n < 2^63.

    Different indices are independent draws, whatever their n. Lemire, "Fast random integer generation in an interval", 2019.
    """
    key, at = np.uint64(stream), np.uint64(index)
    first, second = _pair(key, at >> _1, _0, _BOUNDED)
    return int(_scale(key, at, second if at & _1 else first, np.uint64(n)))


@compiled
def shuffle_steps(values: NDArray[np.int64], start: int, stop: int, stream: int) -> None:
    """Steps start … stop-1 of the forward Fisher-Yates shuffle of `values`, in place; 0 <= start <= stop <= values.size.

    Step i swaps values[i] with values[i + bounded(stream, i, values.size - i)], after which values[i] is final: a shuffle can be taken
    just as far as it is needed, and continued later.
    """
    key = np.uint64(stream)
    first = second = _0
    for i in range(start, stop):
        index = np.uint64(i)
        if i == start or i & 1 == 0:
            first, second = _pair(key, index >> _1, _0, _BOUNDED)
        j = i + np.int64(_scale(key, index, second if i & 1 else first, np.uint64(values.size - i)))
        values[i], values[j] = values[j], values[i]


@compiled
def uniforms(stream: int, out: NDArray[np.float64]) -> None:
    """Fill out[n] with doubles in [0, 1) of 53 random bits each. out[i] is a function of (stream, i) alone, not of n."""
    key = np.uint64(stream)
    for i in range(0, out.size, 2):
        first, second = _pair(key, np.uint64(i) >> _1, _0, _UNIFORM)
        out[i] = np.float64(first >> _11) * _TO_DOUBLE
        if i + 1 < out.size:
            out[i + 1] = np.float64(second >> _11) * _TO_DOUBLE
