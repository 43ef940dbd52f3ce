"""What we write, others read: Python's tarfile, the webdataset library and DALI, sample for sample."""

import tarfile

import pytest

from dataplane import Lake
from dataplane.catalog import Change, SplitCount
from dataplane.formats import tar
from dataplane.formats.index import ImageInfo
from dataplane.schema import Field, Schema
from dataplane.shards import ShardRow
from tests import make

# webdataset leaves closing its shards to the garbage collector
leaves_files_open = pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")

KEYS = [
    "plain",
    "dots.in.the.name",
    "folder.with.dots/name.x",
    ".hidden",
    "folder/.hidden",
    "with space",
    "trailing space ",
    "ünïcode/字",
    "new\nline\ttab",
    "__leading",
    "folder/__leading",
    "x" * 300,
    "folder/" + "é" * 200,
    "per%2Ecent%",
    "../up/./x/..",
    "quote'\"back\\slash",
    "glob*?[a]",
    "colon:comma,semicolon;",
    "a/",
    "~",
    "-dash",
]


def fields_of(number):
    return {"jpg": bytes([number]) * (number * 700), "cls": b"%d" % number}


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """A shard of samples with nasty keys, read back from a lake; and the keys in it, in order."""
    folder = tmp_path_factory.mktemp("interop")
    lake = Lake.init(str(folder / "lake"))
    with tar.Writer(folder / "shard.tar") as writer:
        for number, key in enumerate(KEYS):
            writer.add(key, fields_of(number), {"jpg": ImageInfo(1, 1)})
        ref, index = writer.finish()
    lake.objects.put_file(folder / "shard.tar", suffix=".tar", ref=ref)
    row = ShardRow("train", "tar", ref, lake.objects.put(index, suffix=".idx"), len(KEYS), writer.size)
    finished = make.Finished(row, make.metadata(range(len(KEYS)), [1] * len(KEYS)))
    schema = Schema((Field("jpg", "image"), Field("cls", "class")))
    change = Change("make", {}, schema, (make.part(lake, [finished]),), {"train": SplitCount(len(KEYS), 1, writer.size)})
    lake.catalog.commit("nasty", lambda _: change)
    train = lake.dataset("nasty")["train"]
    assert [(sample.key, dict(sample.fields)) for sample in train] == [(key, fields_of(i)) for i, key in enumerate(KEYS)]
    return lake.store.local_path(ref)


def test_tarfile(shard):
    with tarfile.open(shard) as archive:
        found = [(member.name, archive.extractfile(member).read()) for member in archive]
        assert all(member.isreg() and member.mtime == 0 and member.mode == 0o644 for member in archive.getmembers())
    expected = [(tar.member_name(key, name), data) for i, key in enumerate(KEYS) for name, data in sorted(fields_of(i).items())]
    assert found == expected


@leaves_files_open
def test_webdataset(shard):
    webdataset = pytest.importorskip("webdataset")
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [{name: sample[name] for name in ("jpg", "cls")} for sample in samples] == [fields_of(i) for i in range(len(KEYS))]
    assert [sample["__key__"] for sample in samples] == [tar.member_name(key, "jpg").removesuffix(".jpg") for key in KEYS]


def test_dali(shard):
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=len(KEYS), num_threads=1, device_id=None)
    def pipeline():
        return tuple(fn.readers.webdataset(paths=[str(shard)], ext=["jpg", "cls"], missing_component_behavior="error"))

    built = pipeline()
    built.build()
    pictures, classes = built.run()
    assert set(built.epoch_size().values()) == {len(KEYS)}
    assert [{"jpg": bytes(pictures.at(i)), "cls": bytes(classes.at(i))} for i in range(len(KEYS))] == [
        fields_of(i) for i in range(len(KEYS))
    ]


@leaves_files_open
def test_the_photographs(photos, tmp_path):
    """The webdataset library decodes real photographs out of a shard to the pixels that Pillow finds in the files."""
    webdataset = pytest.importorskip("webdataset")
    import numpy as np
    from PIL import Image

    files = sorted(photos.glob("*.jpg"))[:12]
    with tar.Writer(tmp_path / "photos.tar") as writer:
        for file in files:
            writer.add(file.stem, {"jpg": file.read_bytes()})
        writer.finish()
    decoded = list(webdataset.WebDataset(str(tmp_path / "photos.tar"), shardshuffle=False).decode("rgb8"))
    assert len(decoded) == len(files)
    for sample, file in zip(decoded, files, strict=True):
        with Image.open(file) as picture:
            assert np.array_equal(sample["jpg"], np.asarray(picture.convert("RGB")))
