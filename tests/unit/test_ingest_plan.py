"""Plans are pure: what a dataset lacks, and how that is cut into shards."""

import pyarrow as pa

from dataplane.ingest.labels import labels_from
from dataplane.ingest.options import Bad
from dataplane.ingest.plan import Todo, Wanted, assign_classes, compare, describe, gone, in_order, key_of, tasks
from dataplane.ingest.source import Entry
from dataplane.ingest.splits import Splits
from dataplane.schema import Schema

ALL = Splits.parse("train=1", None)


def entry(path, size=10, etag="e1"):
    return Entry(path, path, size, etag)


def wanted(path, *, label=None, split="train", **given):
    return Wanted(entry(path, **given), key_of(path), label, split)


def present(*rows):
    names = ("key", "label", "split", "source", "source_etag", "source_blake3")
    kinds = (pa.string(), pa.string(), pa.string(), pa.string(), pa.string(), pa.binary(32))
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    return pa.table({name: pa.array(list(column), kind) for name, column, kind in zip(names, columns, kinds, strict=True)})


def test_keys_are_paths_without_the_last_extension():
    assert [key_of(path) for path in ("a/b.jpg", "a.b/c", "x.tar.gz", "a/b.c.jpg")] == ["a/b", "a.b/c", "x.tar", "a/b.c"]


def test_files_become_samples_and_the_first_by_path_has_the_key():
    entries = [entry(path) for path in ("cat/1.jpg", "cat/1.png", "dog/2.jpg", "top.jpg")]
    found, bad = describe(entries, labels_from("folder"), ALL)
    assert [(w.key, w.label, w.split) for w in found] == [("cat/1", "cat", "train"), ("dog/2", "dog", "train")]
    assert bad == [Bad("cat/1.png", "two files with one key: cat/1.jpg has it"), Bad("top.jpg", "no folder to take the label from")]


def test_what_is_named_like_a_picture_has_the_key_before_other_files():
    found, bad = describe([entry(path) for path in ("a/1.json", "a/1.png", "a/1.txt", "a/2.csv", "a/2.txt")], None, ALL)
    assert [(w.key, w.entry.path) for w in found] == [("a/1", "a/1.png"), ("a/2", "a/2.csv")]
    reason = "two files with one key: a/1.png has it"
    assert bad == [Bad("a/1.json", reason), Bad("a/1.txt", reason), Bad("a/2.txt", "two files with one key: a/2.csv has it")]


def test_a_file_without_a_label_takes_no_key():
    labels = labels_from(r"name:a\.(png)")
    found, bad = describe([entry("a.jpg"), entry("a.png")], labels, ALL)
    assert [w.entry.path for w in found] == ["a.png"]
    assert [b.source for b in bad] == ["a.jpg"]


def test_new_classes_come_behind_old_ones_and_folders_without_pictures_last():
    new = [wanted("docs/a.md", label="docs"), wanted("eel/1.jpg", label="eel"), wanted("ant/1.PNG", label="ant"), wanted("x.jpg")]
    assert assign_classes(Schema((), ("cat", "bee")), new) == ("cat", "bee", "ant", "eel", "docs")


def test_only_what_changed_is_to_be_done():
    one, two = bytes(32), bytes([1] * 32)
    have = present(
        ("same", "cat", "train", "same.jpg", "e1", one),
        ("touched", None, "train", "touched.jpg", "e0", two),
        ("relabelled", "dog", "train", "relabelled.jpg", "e1", one),
        ("moved", None, "test", "moved.jpg", "e1", one),
        ("other", None, "train", "other.jpg", "e1", one),
    )
    asked = [
        wanted("same.jpg", label="cat"),
        wanted("touched.jpg"),
        wanted("relabelled.jpg", label="cat"),
        wanted("moved.jpg"),
        wanted("new.jpg"),
        wanted("bad.jpg"),
        wanted("mended.jpg"),
    ]
    before = {"bad.jpg": Bad("bad.jpg", "empty", "e1"), "mended.jpg": Bad("mended.jpg", "empty", "e0"), "x": Bad("x", "gone")}
    found = compare(asked, have, before)
    assert found.bad == (before["bad.jpg"],)
    assert {todo.wanted.key: todo.known for todo in found.todo} == {
        "touched": two,
        "relabelled": None,
        "moved": None,
        "new": None,
        "mended": None,
    }
    assert compare(asked[:1], have, {}).todo == ()
    assert len(compare(asked, present(), {}).todo) == len(asked)


def test_what_is_gone():
    blake3 = bytes(32)
    have = present(*((path, None, "train", f"{path}.jpg", "e", blake3) for path in ("here", "away", "unlisted", "closed/1", "closed2/1")))
    assert gone(have, [wanted("here.png")], ["unlisted.jpg"], ["closed"]) == {"away": blake3, "closed2/1": blake3}
    assert gone(have, [], [], [""]) == {}


def test_orders():
    items = [Todo(wanted(f"{n}.jpg")) for n in range(30)]
    by_hash = in_order(items, "hash")
    assert sorted(by_hash, key=str) == sorted(items, key=str)
    assert by_hash != items
    assert in_order(reversed(items), "hash") == by_hash
    assert [item.wanted.entry.path for item in in_order(items, "source")] == sorted(f"{n}.jpg" for n in range(30))


def test_shards_are_even_and_of_one_split():
    items = [Todo(wanted(f"{n:03}.jpg", size=10, split="test" if n % 5 == 0 else "train")) for n in range(100)]
    cut = tasks(items, ("train", "test"), shard_bytes=300)
    assert [task.number for task in cut] == [0, 1, 2, 3]
    assert [(task.split, len(task.todo)) for task in cut] == [("train", 27), ("train", 27), ("train", 26), ("test", 20)]
    assert [t for task in cut for t in task.todo] == sorted(items, key=lambda item: item.wanted.split, reverse=True)


def test_a_file_larger_than_a_shard_has_one_to_itself():
    items = [Todo(wanted(f"{n}.jpg", size=size)) for n, size in enumerate((10, 500, 10, 0))]
    assert [len(task.todo) for task in tasks(items, ("train",), shard_bytes=100)] == [1, 1, 2]
    assert tasks([], ("train",), shard_bytes=100) == []
    assert len(tasks([Todo(wanted("a.jpg", size=0))], ("train",), shard_bytes=100)) == 1
