"""Writes order_vectors.json beside it: `python tests/data/make_order_vectors.py` (`--check` only compares).

Provenance of the vectors: this file. It is a second implementation of the order, straight from its definition, with Python's integers and
lists and nothing of the project. Its Philox is checked in tests/unit/test_philox.py against the vectors published with Random123 and, in
the 64-bit width, against numpy's generator. The vectors were written once; if a change makes them differ, the order has changed for
everybody who resumes a run, so the change is wrong.
"""

import json
import sys
from pathlib import Path

PATH = Path(__file__).with_name("order_vectors.json")

# Multipliers and key increments of Philox4x32 and Philox4x64 (Salmon et al., SC'11, table 2 and section 3.2).
CONSTANTS = {
    32: (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85),
    64: (0xD2E7470EE14C6C93, 0xCA5A826395121157, 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B),
}
SHARDS, WINDOW, SAMPLE = 1, 2, 3
BOUNDED, UNIFORM = 0, 1


def philox(counter, key, width=32):
    """Ten rounds of Philox4xWIDTH."""
    m0, m1, w0, w1 = CONSTANTS[width]
    mask = 2**width - 1
    (a, b, c, d), (k0, k1) = counter, key
    for _ in range(10):
        p, q = m0 * a, m1 * c
        a, b, c, d = (q >> width) ^ b ^ k0, q & mask, (p >> width) ^ d ^ k1, p & mask
        k0, k1 = (k0 + w0) & mask, (k1 + w1) & mask
    return a, b, c, d


def words(number, count):
    return [number >> 32 * i & 0xFFFFFFFF for i in range(count)]


def derive(seed, domain, a, b, c):
    low, high = words(c, 2)
    result = philox((b, a, low, domain << 16 | high), words(seed, 2))
    return (result[1] << 32 | result[0]) >> 1


def draw(stream, index, attempt, use):
    """64-bit number `index` of a stream."""
    result = philox((*words(index // 2, 2), attempt, use), words(stream, 2))
    return result[2 * (index % 2) + 1] << 32 | result[2 * (index % 2)]


def bounded(stream, index, n):
    attempt = 0
    while True:
        product = draw(stream, index, attempt, BOUNDED) * n
        if product % 2**64 >= 2**64 % n:
            return product >> 64
        attempt += 1


def uniform(stream, index):
    return (draw(stream, index, 0, UNIFORM) >> 11) * 2.0**-53


def shuffled(values, stream):
    values = list(values)
    for i in range(len(values)):
        j = i + bounded(stream, i, len(values) - i)
        values[i], values[j] = values[j], values[i]
    return values


def place_of(position, total, *, seed, epoch, lanes, window):
    """Steps 2 and 3 of the definition."""
    base, rest = divmod(total, lanes)
    q, lane = divmod(position, lanes)
    lane_size = base + (lane < rest)
    stagger = lane * window // lanes
    number = (q + stagger) // window
    begin = max(0, number * window - stagger)
    end = min(lane_size, (number + 1) * window - stagger)
    chosen = shuffled(range(begin, end), derive(seed, WINDOW, epoch, lane, number))[q - begin]
    return lane * base + min(lane, rest) + chosen


def sample_at(position, counts, *, shuffle, **key):
    """(shard, item) of a position."""
    shards = list(range(len(counts)))
    place = position
    if shuffle:
        shards = shuffled(shards, derive(key["seed"], SHARDS, key["epoch"], 0, 0))
        place = place_of(position, sum(counts), **key)
    for shard in shards:
        if place < counts[shard]:
            return shard, place
        place -= counts[shard]
    raise IndexError(position)


def order_case(name, counts, positions=None, *, seed=0, epoch=0, lanes=1, window=1, shuffle=True):
    positions = list(range(sum(counts))) if positions is None else positions
    key = {"counts": counts, "seed": seed, "epoch": epoch, "lanes": lanes, "window": window, "shuffle": shuffle}
    samples = [sample_at(p, **key) for p in positions]
    return {"name": name, **key, "positions": positions, "shards": [s for s, _ in samples], "items": [i for _, i in samples]}


def stream_case(seed, domain, a, b, c):
    stream = derive(seed, domain, a, b, c)
    draws = [[index, n, bounded(stream, index, n)] for index, n in ((0, 10), (1, 10), (2, 2**40), (5, 2**62 + 1), (2**40 + 1, 3 * 2**61))]
    doubles = [uniform(stream, index) for index in range(3)]
    return {"seed": seed, "domain": domain, "words": [a, b, c], "stream": stream, "bounded": draws, "uniforms": doubles}


def vectors():
    """The content of order_vectors.json."""
    big = [10**9, 1, 10**9, 0, 10**9]
    total = sum(big)
    return {
        "provenance": "tests/data/make_order_vectors.py: an implementation in plain Python integers, independent of the project",
        "streams": [
            stream_case(0, SHARDS, 0, 0, 0),
            stream_case(1, WINDOW, 2, 3, 4),
            stream_case(2**63 - 1, SAMPLE, 2**32 - 1, 2**32 - 1, 2**48 - 1),
            stream_case(1234567890123456789, 2**16 - 1, 1, 2, 2**33 + 5),
        ],
        "orders": [
            order_case("one lane, windows of one", [3, 4, 5]),
            order_case("one lane, one window", [3, 4, 5], window=12, seed=1),
            order_case("two lanes", [3, 4, 5], lanes=2, window=4, seed=1),
            order_case("empty shards and uneven lanes", [0, 5, 0, 7, 1, 0], lanes=4, window=3, seed=7, epoch=3),
            order_case("next epoch", [0, 5, 0, 7, 1, 0], lanes=4, window=3, seed=7, epoch=4),
            order_case("more lanes than samples", [2, 1, 3], lanes=9, window=2, seed=5),
            order_case("a window longer than the lane", [6, 6, 6], lanes=3, window=100, seed=5),
            order_case("one sample", [0, 1], lanes=48, window=10, seed=3),
            order_case("no sample", [0, 0], lanes=48, window=10, seed=3),
            order_case("no shard", [], lanes=48, window=10, seed=3),
            order_case("largest seed and epoch", [4, 4, 4], lanes=3, window=3, seed=2**63 - 1, epoch=2**32 - 1),
            order_case("default lanes", [10] * 13, lanes=48, window=20, seed=11, epoch=1),
            order_case("source order", [2, 0, 3], lanes=1, window=1, seed=9, shuffle=False),
            order_case(
                "far positions", big, [0, 1, 47, 48, 10**9, total // 2, total - 2, total - 1], lanes=48, window=100, seed=2, epoch=6
            ),
        ],
    }


def as_text():
    content = vectors()
    lines = ["{", f' "provenance": {json.dumps(content["provenance"])},']
    for name in ("streams", "orders"):
        rows = ",\n".join("  " + json.dumps(case) for case in content[name])
        lines += [f' "{name}": [', rows, " ]" + ("," if name == "streams" else "")]
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PATH.write_text(as_text(), encoding="utf-8")
    elif PATH.read_text(encoding="utf-8") != as_text():
        sys.exit(f"{PATH.name} differs from what its generator makes")
