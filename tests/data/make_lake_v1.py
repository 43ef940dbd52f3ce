"""Makes `lake-v1`, a lake of format 1 that later releases must go on reading, and `lake-v1.json`, what is in it.

Run once, by the release that introduced the format (0.1.0): python tests/data/make_lake_v1.py. Do not run it again: old bytes stay.
"""

import json
import shutil
import sys
from pathlib import Path

from blake3 import blake3

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from dataplane import Lake, journal  # noqa: E402
from dataplane.catalog import Part  # noqa: E402
from dataplane.manifest import write_shards  # noqa: E402
from dataplane.refs import ref_to_json  # noqa: E402
from tests import make  # noqa: E402


def build(folder):
    lake = Lake.init(str(folder))
    train, test = make.finished(lake, "train", range(3)), make.finished(lake, "test", [3])
    first = make.part(lake, [train, test])
    lake.catalog.commit("numbers", lambda _: make.change([first], [train.shard, test.shard]))
    more = make.finished(lake, "train", [4])  # takes the place of sample 1
    rows = [train.shard.without([1]), test.shard]
    thin = Part(lake.objects.put(write_shards(rows), suffix=".parquet"), first.metadata, 3)
    lake.catalog.commit("numbers", lambda _: make.change([thin, make.part(lake, [more])], [*rows, more.shard]))
    lake.catalog.tag("numbers", "prod", 1)
    weights = lake.objects.put(b"weights", suffix=".bin")
    lake.log("runs", "first").append(lambda _: {"step": 1, "weights": ref_to_json(weights)})
    lake.log("models", "digits").append(lambda _: {"run": "first", "weights": ref_to_json(weights)})
    journal.socket.gethostname, journal._started = lambda: "elsewhere", lambda _: "a boot/1"
    journal.Journal(lake.store, "numbers").add(make.finished(lake, "train", [5]))
    return lake


def contents(lake):
    """Per version and split: key, label and the digest of every field of each sample."""
    found = {}
    for spec in ("numbers@1", "numbers@2"):
        dataset = lake.dataset(spec)
        found[spec] = {
            split: [[s.key, {name: blake3(data).hexdigest() for name, data in s.fields.items()}, dict(s.metadata)] for s in dataset[split]]
            for split in dataset.splits
        }
    return found


if __name__ == "__main__":
    shutil.rmtree(HERE / "lake-v1", ignore_errors=True)
    made = build(HERE / "lake-v1")
    (HERE / "lake-v1" / ".tmp").rmdir()
    (HERE / "lake-v1.json").write_text(json.dumps(contents(made), indent=1, sort_keys=True) + "\n")
