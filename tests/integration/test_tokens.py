"""Packed documents through a loader, against the documents read one by one and laid end to end in lists."""

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataplane import Lake, WriteOptions, write
from dataplane.adopt import adopt
from dataplane.errors import BadSample, CorruptObject, InvalidArgument, StateMismatch
from dataplane.ingest import IngestOptions, ingest
from dataplane.versions.where import where
from loaders import Loader, Mixture, Packed
from loaders.course import component_seed
from loaders.tokens.opened import Groups
from loaders.tokens.stream import Laid
from tiering import Hot

LENGTH = 32
SMALL = {"shard_bytes": 20_000, "row_group_bytes": 3000}
LOADING = {"batch_size": 7, "threads": 2, "lanes": 6, "window": 40, "seed": 4, "tail": "short"}


def documents(count=600, seed=0, most=90):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 50_000, rng.integers(0, most)) for _ in range(count)]


def text_lake(url, docs=None, *, kind=None, **options):
    lake = Lake.init(url)
    kind = kind or pa.uint16()
    schema = pa.schema([("tokens", pa.list_(kind)), ("number", pa.int64())])
    samples = ({"__key__": f"k{i}", "tokens": doc.tolist(), "number": i} for i, doc in enumerate(documents() if docs is None else docs))
    write(lake, "text", samples, options=WriteOptions(**SMALL, schema=schema, **options))
    return lake


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    return text_lake(str(tmp_path_factory.mktemp("text") / "lake")).dataset("text")["train"]


def delivered(data, **options):
    """What was delivered at every position: (tokens, positions, segments)."""
    found = {}
    with Loader(data, **LOADING | options) as loader:
        for batch in loader:
            for i, position in enumerate(batch.positions.tolist()):
                assert position not in found
                found[position] = tuple(batch[name][i].tolist() for name in ("tokens", "positions", "segments"))
    return found


def by_shard(split, field="tokens"):
    """The documents of each shard."""
    docs = [[int(token) for token in sample.fields[field]] for sample in split.read_many(range(len(split)), [field])]
    ends = np.cumsum(split.counts)
    return [docs[end - count : end] for end, count in zip(ends.tolist(), split.counts.tolist(), strict=True)]


def concatenated(split, *, seed=4, epoch=0, separator=None, field="tokens"):
    """The sequences of an epoch: the plainest way."""
    shards = by_shard(split, field)
    behind = [] if separator is None else [separator]
    totals = np.array([sum(len(doc) + len(behind) for doc in docs) for docs in shards])
    stream = []
    for number in Laid.of(totals, seed=seed, epoch=epoch).order.tolist():
        stream += [(token, at, (number, n)) for n, doc in enumerate(shards[number]) for at, token in enumerate(doc + behind)]
    found = []
    for first in range(0, len(stream) - LENGTH + 1, LENGTH):
        tokens, positions, owners = zip(*stream[first : first + LENGTH], strict=True)
        segments = np.cumsum([1, *(a != b for a, b in zip(owners[1:], owners[:-1], strict=True))])
        found.append((list(tokens), list(positions), segments.tolist()))
    return found


def same(found, expected):
    assert sorted(found.values()) == sorted(expected)


@pytest.mark.parametrize("separator", [None, 7])
def test_a_stream_is_all_documents_end_to_end(train, separator):
    packed = Packed(train, length=LENGTH, separator=separator)
    found = delivered(packed)
    same(found, concatenated(train, separator=separator))
    assert found != delivered(packed, seed=5)
    assert found == delivered(packed, threads=0, batch_size=64)


def test_the_manifest_counts_tokens(train):
    assert len(train.shards) > 3
    assert train.tokens.tolist() == [sum(map(len, docs)) for docs in by_shard(train)]


def test_every_epoch_is_cut_elsewhere(train):
    with Loader(Packed(train, length=LENGTH), **LOADING) as loader:
        epochs = [[batch["tokens"].tolist() for batch in loader] for _ in range(2)]
    sequences = [{tuple(line) for batch in epoch for line in batch} for epoch in epochs]
    assert len({sum(map(len, epoch)) for epoch in epochs}) == 1
    assert sequences[0] != sequences[1]
    assert sequences[1] == {tuple(tokens) for tokens, _, _ in concatenated(train, epoch=1)}


def test_without_shuffling_the_stream_is_as_it_is_stored(train):
    stored = [token for docs in by_shard(train) for doc in docs for token in doc]
    found = delivered(Packed(train, length=LENGTH), shuffle=False, lanes=None, window=None)
    assert [token for _, (tokens, _, _) in sorted(found.items()) for token in tokens] == stored[: len(stored) // LENGTH * LENGTH]


def test_ranks_share_an_epoch(train):
    packed = Packed(train, length=LENGTH)
    found = {}
    for rank in range(3):
        mine = delivered(packed, rank=rank, world=3)
        assert not found.keys() & mine.keys()
        found |= mine
    assert found == delivered(packed)


def test_resume_at_every_step(train):
    packed, options = Packed(train, length=LENGTH), LOADING | {"batch_size": 50}
    with Loader(packed, **options) as loader:
        states, batches = [], []
        for batch in loader:
            batches.append(batch["tokens"].tolist())
            states.append(json.loads(json.dumps(loader.state_dict())))
        after = next(iter(loader))["tokens"].tolist()
    for n, state in enumerate(states):
        with Loader(packed, **options | {"threads": n % 3}) as loader:
            loader.load_state_dict(state)
            assert next(iter(loader))["tokens"].tolist() == [*batches, after][n + 1]


@pytest.mark.parametrize("other", [{"separator": 1}, {"length": LENGTH + 1}, {"how": "best-fit"}])
def test_a_state_of_other_packing_is_refused(train, other):
    with Loader(Packed(train, length=LENGTH), **LOADING) as loader:
        state = loader.state_dict()
    with Loader(Packed(train, **{"length": LENGTH} | other), **LOADING) as loader, pytest.raises(StateMismatch):
        loader.load_state_dict(state)


def test_integers_of_numpy_go_into_a_state(train):
    with Loader(Packed(train, length=np.int32(LENGTH), separator=np.int64(3)), **LOADING) as loader:
        state = json.loads(json.dumps(loader.state_dict()))
    with Loader(Packed(train, length=LENGTH, separator=3), **LOADING) as loader:
        loader.load_state_dict(state)


def pieces(docs):
    """How often each document is there, those that are longer than a sequence in parts."""
    return Counter(tuple(int(token) for token in doc[at : at + LENGTH]) for doc in docs for at in range(0, len(doc), LENGTH))


def test_best_fit_holds_each_document(train):
    docs = [doc for mine in by_shard(train) for doc in mine]
    found = delivered(Packed(train, length=LENGTH, how="best-fit", pad=3))
    got = Counter()
    for tokens, positions, segments in found.values():
        tokens, positions, segments = map(np.array, (tokens, positions, segments))
        for segment in range(1, segments.max() + 1):
            inside = segments == segment
            got[tuple(tokens[inside].tolist())] += 1
            assert (np.diff(positions[inside]) == 1).all()
            assert positions[inside][0] % LENGTH == 0
        padding = segments == 0
        assert (tokens[padding] == 3).all()
        assert (positions[padding] == 0).all()
        assert (np.diff(padding.astype(int)) >= 0).all()
    assert got == pieces(docs)
    assert len(found) * LENGTH < sum(map(len, docs)) * 1.1


@pytest.mark.parametrize("how", ["concat", "best-fit"])
def test_a_view_has_the_tokens_of_its_samples(train, how):
    lake = Lake(train.dataset.store.url)
    where(lake, "text", "number % 3 = 0", to=f"third-{how}")
    view = lake.dataset(f"third-{how}")["train"]
    assert len(view) == 200
    found = delivered(Packed(view, length=LENGTH, how=how))
    if how == "concat":
        same(found, concatenated(view))
    else:
        inside = [np.array(tokens)[np.array(segments) > 0] for tokens, _, segments in found.values()]
        assert sum(map(len, inside)) == sum(len(doc) for docs in by_shard(view) for doc in docs)


@pytest.mark.parametrize("how", ["concat", "best-fit"])
def test_shards_without_a_sample_in_a_view_take_no_part(train, how):
    lake = Lake(train.dataset.store.url)
    numbers = [sample.fields["number"] for sample in train.read_many(range(5), ["number"])]
    where(lake, "text", f"number IN ({', '.join(map(str, numbers))})", to=f"few-{how}")
    view = lake.dataset(f"few-{how}")["train"]
    assert len(view) == 5
    mine = [token for docs in by_shard(view) for doc in docs for token in doc]
    found = delivered(Packed(view, length=4, how=how))
    came = [token for tokens, _, segments in found.values() for token, segment in zip(tokens, segments, strict=True) if segment]
    if how == "best-fit":
        assert sorted(came) == sorted(mine)
    else:
        assert len(came) == len(mine) // 4 * 4
        assert not Counter(came) - Counter(mine)


def test_documents_that_are_null_have_no_tokens(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    schema = pa.schema([("tokens", pa.list_(pa.uint16())), ("number", pa.int64())])
    docs = [None if i % 5 == 0 else list(range(i % 70)) for i in range(300)]
    samples = ({"__key__": f"k{i}", "number": i, **({} if doc is None else {"tokens": doc})} for i, doc in enumerate(docs))
    write(lake, "text", samples, options=WriteOptions(schema=schema, **SMALL))
    train = lake.dataset("text")["train"]
    assert train.tokens.sum() == sum(len(doc) for doc in docs if doc)
    stream = [int(token) for sample in train.read_many(range(300)) for token in sample.fields.get("tokens", ())]
    assert as_stored(train, stream) == 0


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        (pa.uint16(), "zstd"),
        (pa.uint16(), "none"),
        (pa.int32(), "snappy"),
        (pa.uint32(), "gzip"),
        (pa.uint64(), "zstd"),
        (pa.int16(), "none"),
    ],
)
def test_adopted_files_of_any_type_and_codec(tmp_path, kind, codec):
    docs = [doc % 30_000 for doc in documents(200)]
    for part in range(2):
        column = pa.array([doc.tolist() for doc in docs[part::2]], pa.list_(kind))
        pq.write_table(pa.table({"ids": column}), tmp_path / f"x-{part}.parquet", compression=codec, row_group_size=30)
    lake = Lake.init(str(tmp_path / "lake"))
    adopt(lake, str(tmp_path / "x-{0..1}.parquet"), "theirs")
    train = lake.dataset("theirs")["train"]
    assert (train.tokens == -1).all()
    same(delivered(Packed(train, "ids", length=LENGTH)), concatenated(train, field="ids"))
    found = delivered(Packed(train, "ids", length=LENGTH, how="best-fit"))
    assert sum(sum(np.array(segments) > 0) for _, _, segments in found.values()) == sum(map(len, docs))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(pa.uint16(), "int64"), (pa.uint16(), "uint16"), (pa.int64(), "int32"), (pa.int64(), "int64"), (pa.uint32(), "int32")],
)
def test_tokens_come_in_the_type_that_is_wanted(tmp_path, kind, dtype):
    train = text_lake(str(tmp_path / "lake"), documents(100), kind=kind).dataset("text")["train"]
    with Loader(Packed(train, length=LENGTH, dtype=dtype, positions=False, segments=False), **LOADING) as loader:
        batches = [batch["tokens"] for batch in loader]
        assert list(next(iter(loader))) == ["tokens"]
    assert {batch.dtype.name for batch in batches} == {dtype}
    assert sorted(map(tuple, np.concatenate(batches).tolist())) == sorted(tuple(tokens) for tokens, _, _ in concatenated(train))


def test_ingested_lines_have_their_tokens_counted(tmp_path):
    docs = documents(300)
    (tmp_path / "in").mkdir()
    lines = [json.dumps({"input_ids": doc.tolist(), "n": i}) for i, doc in enumerate(docs)]
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(lines))
    ingest(str(tmp_path / "lake"), str(tmp_path / "in"), "text", options=IngestOptions(workers=1, shard_bytes=30_000))
    train = Lake(str(tmp_path / "lake")).dataset("text")["train"]
    assert len(train.shards) > 1
    assert (train.tokens > 0).all()
    assert train.tokens.sum() == sum(map(len, docs))
    same(delivered(Packed(train, "input_ids", length=LENGTH)), concatenated(train, field="input_ids"))


@pytest.mark.parametrize("kind", [pa.large_list(pa.int32()), pa.list_(pa.int32(), 2)])
def test_adopted_lists_of_other_kinds_with_nulls_for_documents(tmp_path, kind):
    rows = [[i, i + 1] if i % 3 else None for i in range(100)]
    pq.write_table(pa.table({"ids": pa.array(rows, kind)}), tmp_path / "x.parquet", row_group_size=30)
    lake = Lake.init(str(tmp_path / "lake"))
    adopt(lake, str(tmp_path / "x.parquet"), "theirs")
    found = delivered(Packed(lake.dataset("theirs")["train"], "ids", length=LENGTH), shuffle=False, lanes=None, window=None)
    stream = [token for row in rows for token in row or []]
    assert [token for _, (tokens, _, _) in sorted(found.items()) for token in tokens] == stream[: len(stream) // LENGTH * LENGTH]


def test_decoded_tokens_keep_their_bound_whoever_asks():
    groups = Groups(limit_bytes=10 * 800)
    decoded = []

    def ask(n):
        return groups.get(n % 30, 0, lambda: decoded.append(n) or np.full(100, n % 30, np.int64))[0]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(600))) == [n % 30 for n in range(600)]
    assert groups.nbytes <= 10 * 800
    before = len(decoded)
    ask(599)
    assert len(decoded) == before


def test_from_s3_and_through_a_hot_tier(s3, tmp_path):
    train = text_lake(s3.url(), documents(200)).dataset("text")["train"]
    expected = concatenated(train)
    same(delivered(Packed(train, length=LENGTH)), expected)
    same(delivered(Packed(train, length=LENGTH), hot=Hot(str(tmp_path / "hot"), limit="1 GiB")), expected)


def test_parts_of_a_mixture_begin_their_epochs_by_themselves(train):
    parts = {"stream": Packed(train, length=LENGTH), "packs": Packed(train, length=LENGTH, how="best-fit")}
    options = LOADING | {"lanes": 6, "window": 20}
    found = {}
    with Loader(Mixture(parts, {"stream": 2, "packs": 1}), **options) as loader:
        alone = loader.components.index("stream")
        for batch in [*loader, *loader]:
            for i in np.flatnonzero(batch.components == alone).tolist():
                found.setdefault(int(batch.component_epochs[i]), []).append(batch["tokens"][i].tolist())
    seed = component_seed(LOADING["seed"], alone)
    assert len(found) > 1
    for epoch, lines in found.items():
        expected = Counter(tuple(tokens) for tokens, _, _ in concatenated(train, seed=seed, epoch=epoch))
        assert Counter(map(tuple, lines)) <= expected
        assert epoch > 0 or Counter(map(tuple, lines)) == expected


# ---------------------------------------------------------------------- what is bad


def spoil(lake, ref, at, data):
    whole = bytearray(lake.store.get(ref.path).buffer())
    whole[at : at + len(data)] = data
    lake.store.delete(ref.path)
    lake.store.put(ref.path, bytes(whole))


def test_a_damaged_row_group_is_named_and_the_others_come(tmp_path):
    lake = text_lake(str(tmp_path / "lake"))
    train = lake.dataset("text")["train"]
    shard = train.shards[2]
    _, _, reader = shard.holding("tokens")
    (leaf,) = reader.layout.fields["tokens"]
    spoil(lake, shard.row.ref, reader.layout.chunk(1, leaf).end - 8, b"\xff\xff\xff\xff")
    with pytest.raises(CorruptObject, match=rf"{shard.row.ref.hex}.*row group 1.*checksum"):
        delivered(Packed(train, length=LENGTH))
    with Loader(Packed(train, length=LENGTH), on_error="skip", max_bad=1.0, **LOADING) as loader:
        batches = list(loader)
        bad = loader.report()["count"]
    expected = {tuple(tokens) for tokens, _, _ in concatenated(text_lake(str(tmp_path / "other")).dataset("text")["train"])}
    lines = [tuple(line) for batch in batches for line in batch["tokens"][batch.valid].tolist()]
    assert set(lines) <= expected
    assert 0 < bad == len(expected) - len(lines) < len(expected) / 4


def as_stored(train, stream):
    """Checks that whatever comes of a stream that is not shuffled is what belongs there. How many sequences did not come."""
    came = 0
    with Loader(Packed(train, length=LENGTH), on_error="skip", max_bad=1.0, shuffle=False, batch_size=64, tail="short") as loader:
        for batch in loader:
            for i in np.flatnonzero(batch.valid).tolist():
                first = int(batch.positions[i]) * LENGTH
                assert batch["tokens"][i].tolist() == stream[first : first + LENGTH]
                came += 1
        assert came + loader.report()["count"] == len(stream) // LENGTH
    return len(stream) // LENGTH - came


def laid_out(train):
    return [token for docs in by_shard(train) for doc in docs for token in doc]


@pytest.fixture(params=["disk", "network"])
def lying_on(request, monkeypatch):
    """Where files lie: what is on a network is not mapped."""
    if request.param == "network":
        monkeypatch.setattr("loaders.tokens.mapped._DISKS", frozenset())


@pytest.mark.usefixtures("lying_on")
def test_neighbours_of_what_is_damaged_are_right(tmp_path):
    lake = text_lake(str(tmp_path / "lake"))
    train = lake.dataset("text")["train"]
    stream = laid_out(train)
    assert as_stored(train, stream) == 0
    shard = train.shards[2]
    _, _, reader = shard.holding("tokens")
    (leaf,) = reader.layout.fields["tokens"]
    spoil(lake, shard.row.ref, reader.layout.chunk(1, leaf).end - 8, b"\xff\xff\xff\xff")
    assert as_stored(train, stream) > 5


def test_neighbours_of_bad_tokens_are_right(tmp_path):
    docs = [np.arange(50) for _ in range(100)]
    for doc in docs[::2]:
        doc[[3, 40]] = -1
    train = text_lake(str(tmp_path / "lake"), docs, kind=pa.int64()).dataset("text")["train"]
    stream = laid_out(train)
    bad = sum(min(stream[first : first + LENGTH]) < 0 for first in range(0, len(stream) - LENGTH + 1, LENGTH))
    assert as_stored(train, stream) == bad > 10


def test_a_file_that_is_put_right_while_it_is_mapped_is_not_taken_for_what_is_mapped(tmp_path):
    lake = text_lake(str(tmp_path / "lake"))
    train = lake.dataset("text")["train"]
    shard = train.shards[0]
    _, _, reader = shard.holding("tokens")
    (leaf,) = reader.layout.fields["tokens"]
    right = bytes(lake.store.get(shard.row.ref.path).buffer())
    spoil(lake, shard.row.ref, reader.layout.chunk(0, leaf).end - 8, b"\1\0\0\0")
    feed = Packed(train, length=LENGTH).feed(train, {})
    feed.way.opened.table(np.array([0]))
    lake.store.delete(shard.row.ref.path)
    lake.store.put(shard.row.ref.path, right)
    arrays = {name: np.zeros((1, LENGTH), np.int32) for name in ("tokens", "positions", "segments")}
    spots = feed.locate(np.array([0]), np.array([0]), seed=None, epoch=0)
    _, _, errors = feed.hand().fill(spots, [], [0], arrays)
    assert "was replaced" in str(errors[0])
    _, _, errors = Packed(train, length=LENGTH).feed(train, {}).hand().fill(spots, [], [0], arrays)
    assert not errors


def test_files_that_are_removed_while_they_are_mapped_are_read_on(tmp_path):
    lake = text_lake(str(tmp_path / "lake"))
    train = lake.dataset("text")["train"]
    with Loader(Packed(train, length=LENGTH), **LOADING) as loader:
        first = sorted(tuple(line) for batch in loader for line in batch["tokens"].tolist())
        for shard in train.shards:
            lake.store.delete(shard.row.ref.path)
        again = [batch["tokens"] for batch in loader]
    assert len(first) == sum(map(len, again))


@pytest.mark.usefixtures("lying_on")
def test_a_file_that_was_cut_short_is_an_error(tmp_path):
    lake = text_lake(str(tmp_path / "lake"))
    train = lake.dataset("text")["train"]
    feed = Packed(train, length=LENGTH).feed(train, {})
    feed.way.opened.table(np.array([0]))
    os.truncate(tmp_path / "lake" / train.shards[0].row.ref.path, 100)
    arrays = {name: np.zeros((1, LENGTH), np.int32) for name in ("tokens", "positions", "segments")}
    spots = feed.locate(np.array([0]), np.array([0]), seed=None, epoch=0)
    _, _, errors = feed.hand().fill(spots, [], [0], arrays)
    assert set(errors) == {0}


@pytest.mark.parametrize("what", ["index", "ref"])
def test_a_shard_that_is_gone_takes_only_its_own_sequences_along(tmp_path, what):
    lake = text_lake(str(tmp_path / "lake"))
    train = lake.dataset("text")["train"]
    expected = [tuple(tokens) for tokens, _, _ in concatenated(train)]
    gone = train.shards[3]
    tokens = [token for doc in by_shard(train)[3] for token in doc]
    lake.store.delete(getattr(gone.row, what).path)
    fresh = lake.dataset("text")["train"]
    with Loader(Packed(fresh, length=LENGTH), on_error="skip", max_bad=1.0, **LOADING) as loader:
        batches = list(loader)
        report = loader.report()
    lines = [tuple(line) for batch in batches for line in batch["tokens"][batch.valid].tolist()]
    assert set(lines) <= set(expected)
    assert len(tokens) // LENGTH <= len(expected) - len(lines) == report["count"] <= len(tokens) // LENGTH + 2


@pytest.mark.parametrize("token", [-1, 1 << 31])
def test_a_token_that_is_none_is_named(tmp_path, token):
    docs = documents(100)
    docs[42] = np.array([1, 2, token, 3])
    train = text_lake(str(tmp_path / "lake"), docs, kind=pa.int64()).dataset("text")["train"]
    with pytest.raises(BadSample, match=r"document 'k42' of .*negative, null, or larger than 2147483647"):
        delivered(Packed(train, length=LENGTH))


@pytest.mark.parametrize(("kind", "most"), [(pa.int32(), 4), (pa.uint64(), (1 << 64) - 1)])
def test_a_null_among_tokens_is_named(tmp_path, kind, most):
    table = pa.table({"ids": pa.array([[1, 2], [3, None, most], [5] * 60], pa.list_(kind)), "k": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "x.parquet", write_statistics=False)
    lake = Lake.init(str(tmp_path / "lake"))
    adopt(lake, str(tmp_path / "x.parquet"), "theirs")
    with pytest.raises(BadSample, match=r"document 'x.parquet#1'.*null"):
        delivered(Packed(lake.dataset("theirs")["train"], "ids", length=LENGTH), lanes=1, batch_size=1)


def test_what_cannot_be_packed(train):
    with pytest.raises(InvalidArgument, match=r"no field 'ids'; its fields are number, tokens"):
        Packed(train, "ids", length=8)
    with pytest.raises(InvalidArgument, match=r"field 'number' is value int64; .*list<uint16>"):
        Packed(train, "number", length=8)
    for wrong in ({"length": 0}, {"how": "worst"}, {"separator": -1}, {"pad": 1 << 31}, {"dtype": "float32"}):
        with pytest.raises(InvalidArgument, match=rf"{next(iter(wrong))} is "):
            Packed(train, **{"length": 8} | wrong)
    with pytest.raises(InvalidArgument, match="best-fit"):
        Packed(train, length=8, how="best-fit", separator=1)
    with pytest.raises(InvalidArgument, match="is empty"):
        Loader(Packed(train, length=1 << 20), batch_size=1)
