"""Each format both ways: what we write, other libraries read, and what they write, we adopt and read; equal sample for sample.

The inputs are made here, which always runs, and real ones, where they lie beside the checkout: photographs, spoken digits, sensors, text.
"""

import csv
import datetime
import io
import subprocess
import tarfile
import uuid
import warnings
import wave
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore, ZipStore

from dataplane import Dataset, Lake, open_store
from dataplane.adopt import AdoptOptions, adopt
from dataplane.formats import tar
from dataplane.ingest import IngestOptions, ingest
from dataplane.writer import WriteOptions, write

# webdataset leaves closing its shards to the garbage collector
leaves_files_open = pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")

KEY = "__key__"


@pytest.fixture(scope="session")
def hugging_face(tmp_path_factory):
    """Hugging Face datasets, which is told before it is loaded to stay away from the network and the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hugging-face")))
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        yield datasets


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


@dataclass(frozen=True)
class Ours:
    """A dataset that we wrote, and what went in: the fields of each key, in order."""

    lake: Lake
    dataset: Dataset
    samples: dict

    def paths(self, form):
        """The files of one format, one a shard."""
        pieces = [piece for shard in self.dataset["train"].shards for piece in shard.row.pieces if piece.format == form]
        return [str(self.lake.store.local_path(piece.ref)) for piece in pieces]


def plain(value):
    """A value as Python has it, whatever the library made of it."""
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item()
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value


def without_none(rows):
    """Rows by key. A field that is null is absent, as in our samples."""
    return {row[KEY]: {name: plain(value) for name, value in row.items() if name != KEY and value is not None} for row in rows}


def read(dataset):
    """Our samples, by key, in order."""
    return {sample.key: plain(dict(sample.fields)) for sample in dataset["train"].read_many(range(len(dataset["train"])))}


# ------------------------------------------------------------------ tar


def made_files(_):
    keys = ["plain", "folder.with.dots/name", "ünïcode/字", "with space/x y", "long/" + "x" * 120, *(f"n/{n:03d}" for n in range(20))]
    return {key: {"bin": bytes([n]) * (700 * n), "cls": b"%d" % n, "txt": key.encode()} for n, key in enumerate(keys)}


def photo_files(request):
    files = sorted(request.getfixturevalue("photos").glob("*.jpg"))[:24]
    return {file.stem: {"jpg": file.read_bytes(), "cls": b"%d" % n} for n, file in enumerate(files)}


def spoken_files(request):
    files = sorted(request.getfixturevalue("spoken_digits").glob("*.wav"))[::8]
    return {file.stem: {"wav": file.read_bytes(), "cls": file.stem[:1].encode()} for file in files}


FILES = {"made": made_files, "photos": photo_files, "spoken_digits": spoken_files}


@pytest.fixture(scope="module", params=FILES)
def files(request):
    return FILES[request.param](request)


@pytest.fixture(scope="module")
def tars(files, tmp_path_factory):
    """Three shards or so."""
    lake = Lake.init(str(tmp_path_factory.mktemp("tars") / "lake"))
    size = sum(len(data) for fields in files.values() for data in fields.values())
    options = WriteOptions(shard_bytes=size // 3)
    ours = Ours(lake, write(lake, "x", ({KEY: key, **fields} for key, fields in files.items()), options=options), files)
    assert read(ours.dataset) == files
    assert list(read(ours.dataset)) == list(files)
    assert len(ours.paths("tar")) > 1
    return ours


def named(files):
    """By the names that the keys have in a tar."""
    return {tar.member_name(key, "x").removesuffix(".x"): fields for key, fields in files.items()}


@leaves_files_open
def test_webdataset_reads_our_tars(tars):
    webdataset = pytest.importorskip("webdataset")
    found = {sample.pop(KEY): sample for sample in webdataset.WebDataset(tars.paths("tar"), shardshuffle=False)}
    fields = {key: {name: value for name, value in sample.items() if not name.startswith("__")} for key, sample in found.items()}
    assert list(fields.items()) == list(named(tars.samples).items())


def test_hugging_face_reads_our_tars(tars, hugging_face, tmp_path):
    hf, text = hugging_face, hugging_face.Value("string")
    kinds = {"jpg": hf.Image(decode=False), "cls": hf.Value("int64"), "txt": text, KEY: text, "__url__": text}
    names = list(next(iter(tars.samples.values())))
    features = hf.Features({name: kinds.get(name, hf.Value("binary")) for name in (*names, KEY, "__url__")})
    files = {"train": tars.paths("tar")}
    rows = hf.load_dataset("webdataset", data_files=files, split="train", features=features, cache_dir=str(tmp_path)).to_list()
    back = {"jpg": lambda value: value["bytes"], "cls": lambda value: b"%d" % value, "txt": str.encode}
    found = {row[KEY]: {name: back.get(name, bytes)(row[name]) for name in names} for row in rows}
    assert list(found.items()) == list(named(tars.samples).items())


def test_dali_reads_our_tars(tars):
    """Spoken digits it decodes, too, to the numbers that Python's own reader finds in the files."""
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def, types

    names = sorted(next(iter(tars.samples.values())))

    @pipeline_def(batch_size=len(tars.samples), num_threads=1, device_id=None)
    def pipeline():
        fields = list(fn.readers.webdataset(paths=tars.paths("tar"), ext=names, missing_component_behavior="error"))
        sounds = fn.decoders.audio(fields[names.index("wav")], dtype=types.INT16) if "wav" in names else ()
        return tuple(fields) + tuple(sounds[:1])

    built = pipeline()
    built.build()
    outputs = built.run()
    count = len(tars.samples)
    assert set(built.epoch_size().values()) == {count}
    found = [{name: bytes(outputs[i].at(row)) for i, name in enumerate(names)} for row in range(count)]
    assert found == list(tars.samples.values())
    for row, fields in enumerate(tars.samples.values() if "wav" in names else ()):
        with wave.open(io.BytesIO(fields["wav"])) as sound:
            assert np.array_equal(np.ravel(outputs[-1].at(row)), np.frombuffer(sound.readframes(sound.getnframes()), "<i2"))


def test_gnu_tar_unpacks_our_tars(tars, tmp_path):
    for path in tars.paths("tar"):
        subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    found = {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {tar.member_name(key, name): data for key, fields in tars.samples.items() for name, data in fields.items()}


def by_webdataset(files, folder):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(folder / "x-%03d.tar"), maxcount=10, verbose=0) as sink:
        for key, fields in files.items():
            sink.write({KEY: key, **fields})


def by_tarfile(form):
    def write_tars(files, folder):
        with tarfile.open(folder / "x.tar", "w", format=form) as archive:
            for key, fields in files.items():
                for name, data in fields.items():
                    member = tarfile.TarInfo(f"{key}.{name}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))

    return write_tars


def by_gnu_tar(*options, name="x.tar"):
    def write_tars(files, folder):
        inside = folder / "files"
        for key, fields in files.items():
            (inside / key).parent.mkdir(parents=True, exist_ok=True)
            for field, data in fields.items():
                (inside / f"{key}.{field}").write_bytes(data)
        entries = [path.name for path in inside.iterdir()]
        subprocess.run(["tar", "-cf", folder / name, *options, "--sort=name", "-C", inside, *sorted(entries)], check=True)
        subprocess.run(["rm", "-r", inside], check=True)

    return write_tars


TARS = {
    "webdataset": by_webdataset,
    "tarfile-pax": by_tarfile(tarfile.PAX_FORMAT),
    "tarfile-gnu": by_tarfile(tarfile.GNU_FORMAT),
    "tar": by_gnu_tar(),
    "tar-posix": by_gnu_tar("--format=posix"),
    "tar-gz": by_gnu_tar("-z", name="x.tar.gz"),
}


@leaves_files_open
@pytest.mark.parametrize("writer", TARS)
def test_tars_of_others(files, writer, lake, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    TARS[writer](files, folder)
    result = adopt(lake, folder, "x", options=AdoptOptions(label_from_field="cls"))
    assert (result.bad, result.samples) == ((), len(files))
    dataset = lake.dataset("x")
    assert read(dataset) == files
    if writer not in {"tar", "tar-posix", "tar-gz"}:  # those have the order of the names
        assert list(read(dataset)) == list(files)
    labels = {row["key"]: row["label"] for row in dataset.metadata(["key", "label"]).to_pylist()}
    assert labels == {key: fields["cls"].decode() for key, fields in files.items()}


# ------------------------------------------------------------------ Parquet


def made_rows(_):
    return {
        f"row/{n:04d}": {
            "n": n - 50,
            "x": n / 7,
            "flag": n % 3 == 0,
            "text": f"ünï {n} 字" * (n % 5),
            "when": datetime.datetime(2024, 1, 1, 12, 0, 0, n),
            "words": [f"w{i}" for i in range(n % 4)],
            "point": {"x": float(n), "name": f"p{n}"},
            "boxes": [{"label": n % 2, "at": [1.5 * n, 2.0, 3.0, 4.0]} for _ in range(n % 3)],
            "vector": [float(n + i) for i in range(8)],
            "raw": bytes([n % 256]) * (n % 9),
            **({"maybe": n} if n % 4 else {}),
        }
        for n in range(300)
    }


def sensor_rows(request):
    rows = {}
    for name in ("nyc_taxi", "rogue_agent_key_hold", "rogue_agent_key_updown"):  # whole numbers, and others
        with (request.getfixturevalue("sensors") / "data" / "realKnownCause" / f"{name}.csv").open(newline="") as file:
            for n, row in enumerate(csv.DictReader(file)):
                when = datetime.datetime.fromisoformat(row["timestamp"])
                rows[f"{name}.csv#{n}"] = {"timestamp": when, "value": float(row["value"])}
    return rows


def text_rows(request):
    lines = (request.getfixturevalue("text") / "tinyshakespeare.txt").read_text().split("\n")
    return {f"tinyshakespeare.txt#{n}": {"text": line} for n, line in enumerate(line for line in lines if line.strip())}


ROWS = {"made": made_rows, "sensors": sensor_rows, "text": text_rows}
VECTOR = pa.list_(pa.float32(), 8)


@pytest.fixture(scope="module", params=ROWS)
def rows(request):
    return ROWS[request.param](request)


def table_of(rows):
    names = dict.fromkeys(name for fields in rows.values() for name in fields)
    table = pa.table({KEY: list(rows)} | {name: [fields.get(name) for fields in rows.values()] for name in names})
    return table.set_column(table.column_names.index("vector"), "vector", table["vector"].cast(VECTOR)) if "vector" in names else table


@pytest.fixture(scope="module")
def parquets(rows, request, tmp_path_factory):
    """The rows that are made come from Python; the real ones are ingested from the files as they are."""
    lake = Lake.init(str(tmp_path_factory.mktemp("parquet") / "lake"))
    if "row/0000" in rows:
        options = WriteOptions(shard_bytes=40_000, formats={"raw": "parquet"})
        as_arrays = ({KEY: key, **fields, "vector": np.array(fields["vector"], np.float32)} for key, fields in rows.items())
        dataset = write(lake, "x", as_arrays, options=options)
    elif "tinyshakespeare.txt#0" in rows:
        source = request.getfixturevalue("text") / "tinyshakespeare.txt"
        assert ingest(lake, source, "x", options=IngestOptions(order="source", shard_bytes=400_000)).kind == "text"
        dataset = lake.dataset("x")
    else:
        source = tmp_path_factory.mktemp("sensors")
        for name in dict.fromkeys(key.partition("#")[0] for key in rows):
            (source / name).symlink_to(request.getfixturevalue("sensors") / "data" / "realKnownCause" / name)
        assert ingest(lake, source, "x", options=IngestOptions(order="source", shard_bytes=100_000)).kind == "tables"
        dataset = lake.dataset("x")
    ours = Ours(lake, dataset, rows)
    assert read(ours.dataset) == rows
    assert len(ours.paths("parquet")) > 1
    return ours


def schema_of(paths):
    """One schema for files that have whole numbers in one and others in the next. Tools that take the first file's need to be told."""
    return pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")


def test_arrow_reads_our_parquet(parquets):
    paths = parquets.paths("parquet")
    table = pyarrow.dataset.dataset(paths, schema=schema_of(paths)).to_table()
    assert without_none(table.to_pylist()) == parquets.samples
    if "vector" in table.column_names:
        assert table.schema.field("vector").type == VECTOR


def test_duckdb_reads_our_parquet(parquets):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        found = connection.execute("select * from read_parquet(?, union_by_name = true)", [parquets.paths("parquet")])
        names = [column[0] for column in found.description]
        assert without_none(dict(zip(names, row, strict=True)) for row in found.fetchall()) == parquets.samples


def test_hugging_face_reads_our_parquet(parquets, hugging_face, tmp_path):
    paths = parquets.paths("parquet")
    features = hugging_face.Features.from_arrow_schema(schema_of(paths))
    found = hugging_face.load_dataset("parquet", data_files={"train": paths}, split="train", features=features, cache_dir=str(tmp_path))
    assert without_none(found.to_list()) == parquets.samples


def test_pandas_reads_our_parquet(parquets):
    pandas = pytest.importorskip("pandas")
    frames = [pandas.read_parquet(path, dtype_backend="pyarrow") for path in parquets.paths("parquet")]
    found = pandas.concat(frames).to_dict("records")
    assert without_none({name: None if value is pandas.NA else value for name, value in row.items()} for row in found) == parquets.samples


def by_arrow(table, path, _):
    pq.write_table(table, path, row_group_size=1000 if len(table) > 1000 else 64)


def by_arrow_columns(table, path, _):
    """Other ways to write the same: no dictionary, other compression, small pages of the second version, statistics left out."""
    pq.write_table(
        table, path, use_dictionary=False, compression="gzip", data_page_version="2.0", data_page_size=512, write_statistics=False
    )


def by_duckdb(table, path, _):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.register("rows", table)
        connection.execute(f"copy (select * from rows) to '{path}' (format parquet, row_group_size 2048)")


def by_hugging_face(table, path, request):
    request.getfixturevalue("hugging_face").Dataset(table).to_parquet(path, batch_size=500)


def by_pandas(table, path, _):
    pandas = pytest.importorskip("pandas")
    table.to_pandas(types_mapper=pandas.ArrowDtype).to_parquet(path, index=False)


PARQUETS = {"arrow": by_arrow, "arrow-plain": by_arrow_columns, "duckdb": by_duckdb, "hugging-face": by_hugging_face, "pandas": by_pandas}


@pytest.mark.parametrize("writer", PARQUETS)
def test_parquet_of_others(rows, writer, lake, tmp_path, request):
    folder = tmp_path / "theirs"
    folder.mkdir()
    table, half = table_of(rows), len(rows) // 2
    PARQUETS[writer](table.slice(0, half), str(folder / "a.parquet"), request)
    PARQUETS[writer](table.slice(half), str(folder / "b.parquet"), request)
    result = adopt(lake, folder, "x")
    assert (result.bad, result.samples, result.shards) == ((), len(rows), 2)
    dataset = lake.dataset("x")
    assert list(read(dataset).items()) == list(rows.items())
    keys = list(rows)
    assert plain(dict(dataset["train"].key(keys[-7]).fields)) == rows[keys[-7]]
    some = [half - 1, 0, half, half]  # from both files
    assert [plain(dict(sample.fields)) for sample in dataset["train"].read_many(some)] == [rows[keys[i]] for i in some]


def test_parquet_of_others_without_keys(lake, tmp_path):
    pq.write_table(pa.table({"id": ["b", "a"], "n": [1, 2]}), tmp_path / "x.parquet")
    adopt(lake, tmp_path / "x.parquet", "numbered")
    assert read(lake.dataset("numbered")) == {"x.parquet#0": {"id": "b", "n": 1}, "x.parquet#1": {"id": "a", "n": 2}}
    adopt(lake, tmp_path / "x.parquet", "named", options=AdoptOptions(key="id"))
    assert {key: fields["n"] for key, fields in read(lake.dataset("named")).items()} == {"b": 1, "a": 2}


# ------------------------------------------------------------------ Zarr


def made_arrays(_):
    numbers = np.random.default_rng(0)
    return {
        "volume": numbers.integers(-1000, 1000, (37, 6, 7, 5), np.int16),
        "mask": numbers.random((37, 9, 4)) > 0.5,
        "field": numbers.random((37, 3, 11), np.float32),
    }


def photo_arrays(request):
    files = sorted(request.getfixturevalue("photos").glob("*.jpg"))[:24]
    tiles = []
    for file in files:
        with Image.open(file) as picture:
            tiles.append(np.asarray(picture.convert("RGB").resize((64, 48))))
    return {"tile": np.stack(tiles)}


def spoken_arrays(request):
    files = sorted(request.getfixturevalue("spoken_digits").glob("*.wav"))[::8]
    frames = np.zeros((len(files), 40, 128), np.int16)
    for row, file in enumerate(files):
        with wave.open(str(file)) as sound:
            found = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")[: 40 * 128]
            frames[row].reshape(-1)[: len(found)] = found
    return {"frames": frames}


def sensor_arrays(request):
    """Windows of a day: a column of readings and one of changes."""
    values = [fields["value"] for key, fields in sensor_rows(request).items() if key.startswith("nyc_taxi")]
    days = np.array(values).reshape(-1, 48)
    return {"day": np.stack([days, np.diff(days, axis=1, prepend=0)], axis=-1)}


ARRAYS = {"made": made_arrays, "photos": photo_arrays, "spoken_digits": spoken_arrays, "sensors": sensor_arrays}


@pytest.fixture(scope="module", params=ARRAYS)
def arrays(request):
    return ARRAYS[request.param](request)


def same(samples, arrays):
    """Samples in order hold just these arrays, with their types."""
    rows = len(next(iter(arrays.values())))
    assert len(samples) == rows
    for row, sample in enumerate(samples):
        assert set(sample.fields) == set(arrays)
        for name, values in arrays.items():
            found = sample.fields[name]
            assert (found.dtype, found.shape) == (values.dtype, values.shape[1:])
            assert np.array_equal(found, values[row])


def test_zarr_python_reads_our_arrays(arrays, lake):
    count = len(next(iter(arrays.values())))
    samples = ({KEY: f"s/{n}", **{name: values[n] for name, values in arrays.items()}} for n in range(count))
    bytes_ = sum(values.nbytes for values in arrays.values())
    ours = Ours(lake, write(lake, "x", samples, options=WriteOptions(shard_bytes=bytes_ // 3)), {})
    same(ours.dataset["train"].read_many(range(count)), arrays)
    first = 0
    for path in ours.paths("zarr"):
        with ZipStore(path, mode="r") as store:
            group = zarr.open_group(store, mode="r")
            keys = group.attrs["dataplane"]["keys"]
            assert keys == [f"s/{n}" for n in range(first, first + len(keys))]
            assert sorted(group.array_keys()) == sorted(arrays)
            for name, values in arrays.items():
                assert group[name].dtype == values.dtype
                assert np.array_equal(group[name][...], values[first : first + len(keys)])
            first += len(keys)
    assert first == count
    assert len(ours.paths("zarr")) > 1


def of_version_2(values):
    return {"zarr_format": 2, "chunks": (5, *values.shape[1:])}


def of_version_3(values):
    return {"zarr_format": 3, "chunks": (4, *(max(1, n // 2) for n in values.shape[1:])), "compressors": [BloscCodec(cname="zstd")]}


def sharded(values):
    return {
        "zarr_format": 3,
        "chunks": (4, *values.shape[1:]),
        "shards": (12, *values.shape[1:]),
        "compressors": [ZstdCodec(level=3), Crc32cCodec()],
    }


ZARRS = {"v2": of_version_2, "v3": of_version_3, "v3-sharded": sharded}


def by_zarr(store, arrays, options):
    zarr.create_group(store, zarr_format=options(next(iter(arrays.values())))["zarr_format"])
    for name, values in arrays.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # codecs that are not in the specification
            array = zarr.create_array(store, name=name, shape=values.shape, dtype=values.dtype, **options(values))
        array[...] = values


@pytest.mark.parametrize("place", ["local", "zip", "memory"])
@pytest.mark.parametrize("version", ZARRS)
def test_arrays_of_others(arrays, version, place, lake, tmp_path):
    url = str(tmp_path / "theirs")
    if place == "local":
        by_zarr(LocalStore(f"{url}/x.zarr"), arrays, ZARRS[version])
    elif place == "zip":
        (tmp_path / "theirs").mkdir()
        with ZipStore(f"{url}/x.zip", mode="w") as store:
            by_zarr(store, arrays, ZARRS[version])
    else:
        written, url = {}, f"memory://{uuid.uuid4().hex}"
        by_zarr(MemoryStore(written), arrays, ZARRS[version])
        for name, data in written.items():
            open_store(url).put(f"x.zarr/{name}", data.to_bytes())
    result = adopt(lake, url, "x")
    count = len(next(iter(arrays.values())))
    assert (result.bad, result.samples, result.shards) == ((), count, 1)
    train = lake.dataset("x")["train"]
    same(train.read_many(range(count)), arrays)
    name = "x.zip" if place == "zip" else "x.zarr"
    key = train[7].key
    assert key.startswith(f"{name}/")
    assert int(key.rpartition("/")[2]) == 7
    assert np.array_equal(train.key(key).fields[min(arrays)], arrays[min(arrays)][7])


# ------------------------------------------------------------------ all at once


@leaves_files_open
def test_one_sample_in_three_formats(lake):
    """Its picture in a tar, its caption in Parquet and its volume in Zarr: each is read by its own library, and rows go together by key."""
    webdataset = pytest.importorskip("webdataset")
    numbers = np.random.default_rng(1)
    made = {}
    for n in range(50):
        picture = io.BytesIO()
        Image.fromarray(numbers.integers(0, 255, (16, 24, 3), np.uint8)).save(picture, "JPEG")
        made[f"s-{n:02d}"] = {"jpg": picture.getvalue(), "caption": f"picture {n}", "volume": numbers.random((3, 4, 5), np.float32)}
    dataset = write(lake, "mixed", ({KEY: key, **fields} for key, fields in made.items()), options=WriteOptions(shard_bytes=10_000))
    ours = Ours(lake, dataset, made)
    assert len(dataset["train"].shards) > 2
    seen = []
    for tar_path, parquet_path, zarr_path in zip(*map(ours.paths, ("tar", "parquet", "zarr")), strict=True):
        pictures = [(sample[KEY], sample["jpg"]) for sample in webdataset.WebDataset(tar_path, shardshuffle=False)]
        captions = pq.read_table(parquet_path).to_pylist()
        with ZipStore(zarr_path, mode="r") as store:
            group = zarr.open_group(store, mode="r")
            keys, volumes = group.attrs["dataplane"]["keys"], group["volume"][...]
        assert keys == [row[KEY] for row in captions] == [key for key, _ in pictures]
        for key, (_, picture), row, volume in zip(keys, pictures, captions, volumes, strict=True):
            assert (picture, row["caption"]) == (made[key]["jpg"], made[key]["caption"])
            assert np.array_equal(volume, made[key]["volume"])
        seen += keys
    assert seen == list(made)
