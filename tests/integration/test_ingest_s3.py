"""The same from and to an S3 server: a real one, in a process of its own."""

from __future__ import annotations

import os
import signal

from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest
from dataplane.journal import leftovers
from dataplane.store import open_store
from dataplane.upkeep import verify_lake
from tests.folders import all_shown, jpeg, shown, start, write_folder

OPTIONS = IngestOptions(label_from="folder", split="train=0.7,test=0.3", shard_bytes=10_000, workers=2)


def upload(url, count):
    store, made = open_store(url), {}
    for number in range(count):
        key = f"{('cat', 'dog')[number % 2]}/{number:03d}"
        store.put(f"{key}.jpg", jpeg(number))
        made[key] = jpeg(number)
    return made


def pictures(dataset):
    return {sample.key: shown(sample.fields["jpg"]) for split in dataset.splits for sample in dataset[split]}


def test_from_s3_to_s3(s3):
    source, url = s3.url("pictures"), s3.url("lake")
    made = upload(source, 24)
    store = open_store(source)
    store.put("cat/empty.jpg", b"")
    store.put("cat/.hidden.jpg", b"")
    store.put("labels.csv", b"x")
    result = ingest(url, source, "pets", options=OPTIONS)
    assert (result.samples, result.ignored, result.lake_made) == (24, 1, True)
    assert {bad.source: bad.reason for bad in result.bad} == {
        "cat/empty.jpg": "an empty file",
        "labels.csv": "no folder to take the label from",
    }
    lake = Lake(url)
    assert pictures(lake.dataset("pets")) == all_shown(made)
    assert lake.dataset("pets").version.lineage["parameters"]["source"] == source
    again = ingest(lake, source, "pets", options=OPTIONS)
    assert (again.committed, again.kept, again.bad) == (False, 24, result.bad)
    store.put("dog/001.jpg", jpeg(100))
    store.delete("dog/003.jpg")
    result = ingest(lake, source, "pets", options=IngestOptions(label_from="folder", split=OPTIONS.split, sync=True))
    assert (result.replaced, result.dropped, result.kept) == (1, 1, 22)
    del made["dog/003"]
    assert pictures(lake.dataset("pets")) == all_shown({**made, "dog/001": jpeg(100)})
    assert verify_lake(lake).problems == []
    assert [meta for chunk in lake.store.list("writers") for meta in chunk] == []


def test_labels_beside_the_pictures(s3):
    source = s3.url("pictures")
    upload(source, 4)
    open_store(source).put("labels.csv", b"path,label\ncat/000.jpg,a\ndog/001.jpg,b\ncat/002.jpg,a\ndog/003.jpg,b\nx.jpg,b\n")
    result = ingest(s3.url("lake"), source, "pets", options=IngestOptions(label_from=f"csv:{source}/labels.csv"))
    assert (result.samples, result.bad, result.ignored) == (4, (), 1)
    assert result.notes == (f"rows of {source}/labels.csv that name no file of the source: 'x.jpg'",)


def test_killed_and_resumed_on_s3(s3, tmp_path):
    made, url = write_folder(tmp_path / "pictures", 60), s3.url("lake")
    process = start(tmp_path, url, str(tmp_path / "pictures"), "pets", label_from="folder", shard_bytes=10_000, workers=2)
    while int(process.stdout.readline().split()[1]) < 20:
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    lake = Lake(url)
    finished = [item.shard for left in leftovers(lake.store, "pets") for item in left.finished]
    assert finished
    result = ingest(lake, tmp_path / "pictures", "pets", options=IngestOptions(label_from="folder", shard_bytes=10_000, workers=1))
    assert (result.resumed, result.samples) == (sum(shard.live for shard in finished), 60)
    assert pictures(lake.dataset("pets")) == all_shown(made)
    assert {shard.ref for shard in finished} <= {row.ref for _, rows in lake.dataset("pets").parts for row in rows}
    assert verify_lake(lake).problems == []


def test_lost_acknowledgements_lose_and_double_nothing(s3, tmp_path):
    made, lake = write_folder(tmp_path / "pictures", 12), Lake.init(s3.url("lake"))

    def watch(progress):
        if progress.stage == "committing":
            s3.lose_acknowledgements(2)

    assert ingest(lake, tmp_path / "pictures", "pets", watch=watch).version == 1
    assert pictures(lake.dataset("pets")) == all_shown(made)
    assert lake.catalog.log("pets").newest() == 1
