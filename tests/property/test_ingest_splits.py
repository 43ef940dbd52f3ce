"""Splits: adding files moves nothing, fractions come out, groups hold."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.ingest.labels import labels_from
from dataplane.ingest.plan import Todo, Wanted, describe, in_order, key_of, tasks
from dataplane.ingest.source import Entry
from dataplane.ingest.splits import Splits

paths = st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12), unique=True, max_size=40)
fractions = st.lists(st.integers(1, 100), min_size=1, max_size=6).map(lambda parts: [part / sum(parts) for part in parts])


def parse(parts, group_by=None):
    return Splits.parse(",".join(f"s{i}={part!r}" for i, part in enumerate(parts)), group_by)


def entries(names, size=1):
    return [Entry(f"{name}.jpg", f"{name}.jpg", size, "e") for name in sorted(names)]


@settings(deadline=None, max_examples=60)
@given(before=paths, added=paths, parts=fractions)
def test_adding_files_moves_no_sample(before, added, parts):
    splits = parse(parts)
    old, _ = describe(entries(before), None, splits)
    new, _ = describe(entries({*before, *added}), None, splits)
    assert {w.key: w.split for w in old}.items() <= {w.key: w.split for w in new}.items()


@settings(deadline=None, max_examples=60)
@given(parts=fractions)
def test_fractions_come_out(parts):
    splits = parse(parts)
    keys = [f"key {n}" for n in range(2000)]
    found = [splits.of(f"{key}.jpg", key) for key in keys]
    for i, part in enumerate(parts):
        assert abs(found.count(f"s{i}") / len(keys) - part) < 0.06


@settings(deadline=None, max_examples=60)
@given(parts=fractions, group=st.integers(0, 10**9))
def test_groups_hold(parts, group):
    splits = parse(parts, r"g(\d+)/")
    assert len({splits.of(f"g{group}/{n}.jpg", f"g{group}/{n}") for n in range(20)}) == 1


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(1, 99), smaller=st.integers(1, 99), keys=paths)
def test_a_smaller_first_split_only_moves_samples_out_of_it(cut, smaller, keys):
    low, high = sorted((cut, smaller))
    before, after = parse([high / 100, 1 - high / 100]), parse([low / 100, 1 - low / 100])
    for key in keys:
        assert after.of("", key) == before.of("", key) or (before.of("", key), after.of("", key)) == ("s0", "s1")


@settings(deadline=None, max_examples=60)
@given(
    names=paths,
    sizes=st.lists(st.integers(0, 50), min_size=40, max_size=40),
    shard_bytes=st.integers(1, 200),
    parts=fractions,
    order=st.sampled_from(["hash", "source"]),
)
def test_every_sample_is_in_one_shard_of_its_split(names, sizes, shard_bytes, parts, order):
    splits = parse(parts)
    todo = [
        Todo(Wanted(Entry(name, name, size, "e"), key_of(name), None, splits.of(name, key_of(name))))
        for name, size in zip(sorted(names), sizes, strict=False)
    ]
    ordered = in_order(todo, order)
    cut = tasks(ordered, splits.names, shard_bytes=shard_bytes)
    assert sorted((t for task in cut for t in task.todo), key=str) == sorted(todo, key=str)
    assert [task.number for task in cut] == list(range(len(cut)))
    for task in cut:
        assert {item.wanted.split for item in task.todo} == {task.split}
        assert sum(item.wanted.entry.size for item in task.todo) <= shard_bytes or len(task.todo) == 1
        places = [ordered.index(item) for item in task.todo]
        assert places == sorted(places)


@settings(deadline=None, max_examples=60)
@given(names=paths)
def test_every_file_is_a_sample_or_bad(names):
    files = entries(names)
    wanted, bad = describe(files, labels_from(r"name:([a-zA-Z])"), parse([1.0]))
    assert sorted([w.entry.path for w in wanted] + [b.source for b in bad]) == sorted(e.path for e in files)
    assert len({w.key for w in wanted}) == len(wanted)
