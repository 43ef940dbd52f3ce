"""Whatever happens to a folder, a dataset that is ingested from it now and then holds what a dictionary says it should."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dataplane import Lake
from dataplane.errors import BadSources, NotFound
from dataplane.ingest import IngestOptions, ingest
from dataplane.ingest.splits import Splits
from dataplane.upkeep import verify_lake
from tests.folders import jpeg, shown

NAMES = st.sampled_from([f"{folder}/{number}" for folder in ("ant", "bee", "cat") for number in range(3)])
EXTENSIONS = st.sampled_from(["jpg", "jpeg"])
SPLITS = st.sampled_from(["train=1", "train=0.5,test=0.5"])
PICTURES = st.integers(0, 9)


class Folder(RuleBasedStateMachine):
    """`files`: what lies in the folder, by key: the path and the bytes. `held`: what the dataset should hold, by key: bytes and split."""

    @initialize()
    def begin(self):
        self.root = Path(tempfile.mkdtemp(prefix="ingest-model-"))
        self.lake = Lake.init(str(self.root / "lake"))
        self.source = self.root / "source"
        self.source.mkdir()
        self.files, self.held, self.clock, self.versions = {}, {}, 0, 0

    def teardown(self):
        shutil.rmtree(self.root)

    @rule(key=NAMES, extension=EXTENSIONS, picture=PICTURES, bad=st.sampled_from([False, False, False, True]))
    def write(self, key, extension, picture, bad):
        self.remove(key)
        path = self.source / f"{key}.{extension}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not a picture" if bad else jpeg(picture))
        self.files[key] = (path, None if bad else jpeg(picture))
        self.touch(key)

    @rule(key=NAMES)
    def remove(self, key):
        if key in self.files:
            self.files.pop(key)[0].unlink()

    @rule(key=NAMES)
    def touch(self, key):
        if key in self.files:
            self.clock += 1
            os.utime(self.files[key][0], ns=(self.clock, self.clock))

    @rule(split=SPLITS, sync=st.booleans(), strict=st.booleans(), shard_bytes=st.sampled_from([2000, 1 << 20]))
    def ingest(self, split, sync, strict, shard_bytes):
        options = IngestOptions("folder", split, shard_bytes=shard_bytes, sync=sync, strict=strict)
        good = {key: data for key, (_, data) in self.files.items() if data is not None}
        bad = {str(path.relative_to(self.source)) for path, data in self.files.values() if data is None}
        try:
            result = ingest(self.lake, self.source, "pets", options=options)
        except NotFound:
            assert not self.files
            return
        except BadSources as error:
            refused = error.bad
        else:
            refused = None
        if refused is not None:
            assert {item.source for item in refused} == bad
            assert (strict and bad) or not (good or self.versions)
            return
        assert {item.source for item in result.bad} == bad
        splits = Splits.parse(split, None)
        after = {key: (data, splits.of("", key)) for key, data in good.items()}
        kept = {key: value for key, value in self.held.items() if not sync or key in self.files}
        expected = {**kept, **after}
        assert result.committed == (expected != self.held)
        assert result.dropped == len(self.held) - len(kept)
        assert result.added == len(after.keys() - self.held.keys())
        assert result.replaced == sum(key in self.held and self.held[key] != value for key, value in after.items())
        self.held = expected
        self.versions += result.committed
        assert result.version == self.versions

    @invariant()
    def the_dataset_holds_it(self):
        if not self.versions:
            return
        dataset = self.lake.dataset("pets")
        found = {}
        for split in dataset.splits:
            for sample in dataset[split]:
                assert sample.key not in found
                found[sample.key] = (shown(sample.fields["jpg"]), split)
                assert dataset.schema.classes[int(sample.fields["cls"])] == sample.key.split("/")[0]
        assert found == {key: (shown(data), split) for key, (data, split) in self.held.items()}
        if self.held:
            assert sorted(dataset.metadata(["key"]).column("key").to_pylist()) == sorted(self.held)
        assert sum(part.samples for part, _ in dataset.parts) == dataset.version.samples == len(self.held)
        assert verify_lake(self.lake).problems == []


TestFolder = Folder.TestCase
TestFolder.settings = settings(deadline=None, max_examples=12, stateful_step_count=25)
