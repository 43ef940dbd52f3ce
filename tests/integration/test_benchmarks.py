"""The benchmarks run, and do not let a wrong output count."""

import doctest
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks import datasets, environments, harness, limits, pages, report
from benchmarks.cli import app
from benchmarks.environments import Environment, EnvironmentFailed, python_of
from benchmarks.peers.accelerators import feeding
from benchmarks.peers.batches import BatchContender
from benchmarks.peers.protocol import VerificationFailed
from benchmarks.peers.random.reading import ReadContender
from benchmarks.photographs import write_photographs
from benchmarks.servers import nginx
from benchmarks.tasks import TASKS, CannotPrepare, Contender, Limit, LimitTask, Request, Target, accelerators, jpeg, load_task
from benchmarks.tasks.random import Job as ReadJob
from benchmarks.tasks.write import check_contents, digest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 256
needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is None, reason="nginx is not installed"
)
needs_dali = pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="DALI is not installed")

# A contender of the JPEG task in Pillow, right or wrong in the way that FAULT says.
CONTENDER = """
import subprocess, sys
from pathlib import Path

FAULT = "{fault}"
if FAULT == "silent":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path("{folder}", "child").write_text(str(child.pid))
    child.wait()

import numpy as np
from PIL import Image
from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks import jpeg

def crop(photograph, box):
    if FAULT != "plain":
        return jpeg.crop_with_pillow(photograph, box)
    crop = photograph.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    crop = crop.resize((224, 224), Image.Resampling.NEAREST)
    return jpeg.normalise(np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if box.mirrored else crop))

class PillowBatches:
    setup, packages = "Pillow", ("pillow",)

    def __init__(self, job):
        self.job, self.rng = job, np.random.default_rng(3)
        self.photographs = [Image.open(path).convert("RGB") for path in job.sources]

    def epoch(self):
        labels = self.rng.permutation(np.repeat(np.arange(len(self.job.repeats)), self.job.repeats))
        if FAULT == "doubled":
            labels[0] = labels[labels != labels[0]][0]
        for i in range(0, len(labels), self.job.batch):
            batch = labels[i : i + self.job.batch]
            photographs = (self.photographs[label] for label in batch)
            images = np.stack([crop(p, jpeg.draw_box(self.rng, *p.size)) for p in photographs])
            yield Batch(images * 0.05 if FAULT == "unnormalised" else images, batch)

    def cut(self):
        for path in jpeg.some_sources(self.job):
            with Image.open(path) as opened:
                photograph = opened.convert("RGB")
            box = jpeg.draw_box(self.rng, *photograph.size)
            cut = crop(photograph, box)
            yield path, box, np.roll(cut, 2, axis=2) if FAULT == "shifted" else cut

    def close(self):
        pass

def open_contender(job):
    if FAULT == "crash":
        sys.exit("no such thing")
    print("a library that talks")
    parsed = jpeg.Job.from_json(job)
    return BatchContender(PillowBatches(parsed), parsed)

serve(open_contender)
"""
FAULTS = {
    "right": None,
    "unnormalised": "not the same crops, resize, colours or normalisation",
    "plain": "detail of channel R is",
    "shifted": "at identical boxes, pixels differ from the reference's by",
    "doubled": "2 of 12 photographs did not come as often",
    "crash": "ended with code 1: no such thing",
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, count=12, seed=5)
    return folder


@pytest.fixture(scope="module")
def prepared(photographs, tmp_path_factory):
    return jpeg.prepare(Request(data=photographs, cache=tmp_path_factory.mktemp("cache"), samples=SAMPLES, threads=2))


@needs_dali
def test_a_run_prints_one_document(photographs, tmp_path):
    arguments = ("--peers", "dataplane,dali,decode", "--samples", SAMPLES, "--rounds", 2, "--seconds", 0.1, "--cache", tmp_path / "cache")
    command = (sys.executable, "-m", "benchmarks", "run", "jpeg", "--data", photographs, *arguments, "--out", tmp_path / "out", "--json")
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["task"] == "jpeg"
    assert document["rounds"] == 2
    assert document["hardware"].keys() >= {"cpu", "cores", "memory_bytes", "disk"}
    assert document["versions"].keys() >= {"python", "kernel"}
    assert document["data"] == {
        "origin": photographs.name, "photographs": 12, "samples": SAMPLES, "mean_bytes": document["data"]["mean_bytes"], "excluded": [],
    }  # fmt: skip
    dataplane, dali, decode = document["results"]
    for result in (dataplane, dali, decode):
        assert result["unit"] == "images/s"
        assert 0 < result["low"] <= result["median"] <= result["high"]
        assert len(result["rates"]) == 2
        assert result["error"] is None
    assert dataplane["checks"]["pixels"]["mean_levels"] <= 1
    assert dali["checks"]["labels"] == dataplane["checks"]["labels"] == "256 samples, each of 12 photographs as often as it should"
    assert dali["versions"].keys() == {"nvidia-dali-cuda130"}
    assert decode["checks"]["pixels"]["mean_levels"] <= 1
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == document
    assert (tmp_path / "out" / "plot.svg").read_text().startswith("<?xml")


def test_list_and_wrong_usage():
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    names = ["dataplane", "torch", "webdataset", "dali", "litdata", "mosaic", "datasets", "spdl", "decode"]
    assert [c["contender"] for c in listed[0]["contenders"]] == names
    for arguments in (["sorting"], ["jpeg", "--peers", "torch,ffcv"], ["jpeg", "--data", "/nonexistent"]):
        assert CliRunner().invoke(app, ["run", *arguments]).exit_code == 2


@pytest.fixture
def contender(tmp_path, monkeypatch):
    """Makes a contender of the given fault."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(fault):
        (tmp_path / f"contender_{fault}.py").write_text(CONTENDER.format(fault=fault, folder=tmp_path))
        return Contender(fault, f"contender_{fault}", "", "images/s", "peer")

    return make


def test_wrong_contenders_fail_and_do_not_stop_the_others(prepared, contender, tmp_path):
    decode = jpeg.TASK.contenders[-1]
    schedule = harness.Schedule(rounds=2, seconds=0.05, timeout_seconds=60)
    told = []
    entrants = [decode, *map(contender, FAULTS)]
    outcomes = harness.run(entrants, prepared.job, schedule, logs=tmp_path, environments=tmp_path / "envs", tell=told.append)
    assert [outcome.contender for outcome in outcomes] == entrants
    for outcome in outcomes[2:]:
        assert FAULTS[outcome.contender.name] in outcome.error
        assert outcome.rates == []
        assert report.result(outcome)["median"] is None
    for outcome in outcomes[:2]:
        assert outcome.error is None
        assert len(outcome.rates) == 2
        assert min(outcome.rates) > 0
    turns = [line.partition(":")[0] for line in told if "round" in line or "warm-up" in line]
    assert turns == ["decode", "right"] * 3
    assert outcomes[1].checks["pixels"] == {"photographs": 12, "mean_levels": 0.0, "worst_levels": 0.0}
    assert "a library that talks" in (tmp_path / "right.log").read_text()


def test_a_contender_that_hangs_is_ended_with_all_that_it_started(prepared, contender, tmp_path):
    schedule = harness.Schedule(rounds=1, seconds=0.05, timeout_seconds=2)
    (outcome,) = harness.run(
        [contender("silent")], prepared.job, schedule, logs=tmp_path, environments=tmp_path / "envs", tell=lambda line: None
    )
    assert "gave no answer within 2 s" in outcome.error
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _alive(child):
        assert time.monotonic() < deadline, "a process of the contender outlived it"


def test_levels_without_antialiasing_are_told_from_those_with_it(photographs, tmp_path):
    from benchmarks.peers.dataplane import DataplaneBatches

    task = load_task("jpeg-uint8")
    job = jpeg.Job.from_json(task.prepare(Request(data=photographs, cache=tmp_path, samples=SAMPLES, threads=2)).job)
    batches = DataplaneBatches(job)
    checks = BatchContender(batches, job).verify()
    assert checks["labels"] == "256 samples, each of 12 photographs as often as it should"
    assert checks["pixels"]["mean_levels"] <= 1
    batch = next(iter(batches.epoch()))
    assert batch.images.shape == (64, 224, 224, 3)
    with pytest.raises(VerificationFailed, match="float32"):
        jpeg.check_batch(batch.images, batch.labels, batch=64, form=jpeg.NORMALISED)
    with pytest.raises(VerificationFailed, match="at identical boxes, pixels differ"):
        jpeg.check_pixels(batches.cut(), jpeg.Form("levels", "antialiased"))
    batches.close()


def test_the_plain_reference_is_that_of_opencv(photographs):
    cv2 = pytest.importorskip("cv2")
    with Image.open(next(photographs.iterdir())) as opened:
        photograph = opened.convert("RGB")
    for box in (jpeg.Box(3, 5, 301, 223, False), jpeg.Box(1, 2, 90, 40, True), jpeg.Box(0, 0, 1, 7, False)):
        crop = np.asarray(photograph)[box.top : box.top + box.height, box.left : box.left + box.width]
        expected = cv2.resize(crop[:, ::-1] if box.mirrored else crop, (224, 224), interpolation=cv2.INTER_LINEAR)
        found = jpeg.crop_with_pillow(photograph, box, "plain")
        assert np.abs(found - jpeg.normalise(expected)).max() * 255 * 0.229 < 1.1


def test_photographs_of_quality_90_are_new_files_for_all(photographs, tmp_path):
    task = load_task("jpeg-q90")
    prepared = task.prepare(Request(data=photographs, cache=tmp_path, samples=SAMPLES, threads=2))
    sources = [Path(path) for path in prepared.job["sources"]]
    assert len(sources) == len(list(photographs.iterdir())) == 12
    assert not {path.read_bytes() for path in sources} & {path.read_bytes() for path in photographs.iterdir()}
    for path in sources:
        with Image.open(path) as image:
            assert image.quantization[0][0] == 3  # the table's first at quality 90
    assert "quality 90" in prepared.data["origin"]


@needs_nginx
def test_the_first_batch_from_a_cold_store(photographs, tmp_path):
    document = _quick("start", photographs, tmp_path, "dataplane", "hot")
    results = _results(document)
    for result in results.values():
        assert result["seconds_each"] == pytest.approx(1 / result["median"], rel=1e-3)
        assert result["checks"]["correlation"] > 0.5
    assert not list((tmp_path / "cache" / "data").glob("*/start/cache/*"))


def test_feeding_accelerators(tmp_path, monkeypatch):
    monkeypatch.setattr(feeding, "STEPS", 2)
    monkeypatch.setattr(feeding, "FREE_SECONDS", 0.1)
    prepared = load_task("accelerators").prepare(Request(data=None, cache=tmp_path, samples=800, threads=2))
    from benchmarks.peers.accelerators.control import Control, ControlContender
    from benchmarks.peers.accelerators.dataplane import DataplaneFeeder

    job = accelerators.Job.from_json(prepared.job)
    contender = feeding.FeedContender(DataplaneFeeder(job), job, most=1)
    assert contender.verify() == {"samples": 800}
    fed = contender.measure(0)
    assert 0 < fed.images / fed.seconds <= 1
    control = ControlContender(Control(job), job)
    assert control.verify() == {"samples": 400}
    assert control.measure(0).images == 2, "an epoch has no more batches"


def test_samples_of_accelerators_are_known():
    rows = np.stack([np.frombuffer(accelerators.sample(number), np.uint8) for number in (5, 300)])
    assert accelerators.check_batch(rows).tolist() == [5, 300]
    wrong = rows.copy()
    wrong[1, -1] ^= 1
    with pytest.raises(VerificationFailed, match="sample 300 does not have its bytes"):
        accelerators.check_batch(wrong)
    with pytest.raises(VerificationFailed, match="not uint8"):
        accelerators.check_batch(rows[:, :-1])


def _alive(pid):
    """Whether it runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_unusable_photographs_are_left_out_and_listed(photographs, tmp_path):
    folder = tmp_path / "mixed" / "deep"
    folder.mkdir(parents=True)
    good = next(photographs.iterdir()).read_bytes()
    (folder / "good.JPG").write_bytes(good)
    (folder / "truncated.jpg").write_bytes(good[: len(good) // 2])
    Image.new("RGB", (40, 30)).save(folder / "really.png")
    (folder / "really.png").rename(folder / "wrong.jpg")
    Image.new("CMYK", (40, 30)).save(folder / "cmyk.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save(folder / "turned.jpg", exif=turned)
    inputs = datasets.make_inputs(tmp_path / "mixed", cache=tmp_path / "cache", samples=16, threads=2)
    reasons = {Path(item.source).name: item.reason for item in inputs.excluded}
    assert set(reasons) == {"truncated.jpg", "wrong.jpg", "cmyk.jpg", "turned.jpg"}
    assert "PNG" in reasons["wrong.jpg"]
    assert "CMYK" in reasons["cmyk.jpg"]
    assert inputs.repeats == (16,)
    assert {path.read_bytes() for path in inputs.tree.rglob("*.jpg")} == {good}
    with pytest.raises(datasets.NoPhotographs, match="got 0 files"):
        datasets.make_inputs(tmp_path / "cache" / "none", cache=tmp_path / "cache", samples=16, threads=2)


@needs_dali
def test_indexes_are_what_dalis_own_tool_writes(prepared, tmp_path):
    from wds2idx import IndexCreator

    for tar, index in zip(prepared.job["tars"], prepared.job["indexes"], strict=True):
        with IndexCreator(tar, str(tmp_path / "tool.idx"), verbose=False) as tool:
            tool.create_index()
        assert (tmp_path / "tool.idx").read_text() == Path(index).read_text()


def test_a_folder_laid_out_before_is_found_again(photographs, prepared):
    cache = Path(prepared.job["scratch"]).parent
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    again = jpeg.prepare(Request(data=photographs, cache=cache, samples=SAMPLES, threads=2))
    assert again == prepared
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


def test_boxes_have_the_tasks_area_and_aspect():
    rng = np.random.default_rng(0)
    boxes = [jpeg.draw_box(rng, 500, 375) for _ in range(4000)]
    area = np.array([box.width * box.height / (500 * 375) for box in boxes])
    aspect = np.array([box.width / box.height for box in boxes])
    assert area.min() > 0.078
    assert 0.7 < aspect.min() < aspect.max() < 1.4
    assert all(0 <= b.left <= 500 - b.width and 0 <= b.top <= 375 - b.height for b in boxes)
    assert abs(np.mean([box.mirrored for box in boxes]) - 0.5) < 0.04
    wide = jpeg.draw_box(rng, 1000, 10)
    assert (wide.width, wide.height, wide.left, wide.top) == (13, 10, 493, 0)


def test_an_environment_adds_to_the_projects_own(tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "benchpeer-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("benchpeer.py", "import numpy\nANSWER = 42\n")
        wheel.writestr("benchpeer-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: benchpeer\nVersion: 1.0\nRequires-Dist: nothing\n")
        wheel.writestr("benchpeer-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("benchpeer-1.0.dist-info/RECORD", "")
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}.items():
        monkeypatch.setenv(name, value)
    environment = Environment("peer", lambda: ("benchpeer==1.0",))
    python = python_of(environment, under=tmp_path)
    said = subprocess.run([python, "-c", "import benchpeer, PIL; print(benchpeer.ANSWER)"], capture_output=True, text=True)
    assert said.stdout == "42\n", said.stderr
    built = (tmp_path / "peer" / environments.COMPLETE).stat().st_mtime_ns
    assert python_of(environment, under=tmp_path) == python
    assert (tmp_path / "peer" / environments.COMPLETE).stat().st_mtime_ns == built
    with pytest.raises(EnvironmentFailed, match=r"could not install benchpeer==2\.0"):
        python_of(Environment("peer", lambda: ("benchpeer==2.0",)), under=tmp_path)
    installed = Environment("own", lambda: (f"numpy=={np.__version__}",))
    assert python_of(installed, under=tmp_path) == Path(sys.executable)


def _quick(task, photographs, tmp_path, *peers):
    """The document of a quick run."""
    who = ("--peers", ",".join(peers)) if peers else ()
    data = ("--data", str(photographs)) if photographs else ()
    arguments = ["run", task, "--quick", "--json", *data, *who, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def _results(document):
    assert [result["error"] for result in document["results"]] == [None] * len(document["results"])
    assert all(result["median"] > 0 for result in document["results"])
    return {result["contender"]: result for result in document["results"]}


def test_writing_shards(photographs, tmp_path):
    document = _quick("write", photographs, tmp_path, "dataplane", "webdataset", "cp", "cp-fsync")
    results = _results(document)
    for result in results.values():
        assert result["checks"]["contents"] == "256 samples read back, equal to their sources byte for byte"
        assert result["samples_per_round"] == [256]
    assert [target["over"] for target in document["targets"]] == ["webdataset", "cp"]
    assert {target["ours"] for target in document["targets"]} == {"dataplane"}
    assert "fsync of every file" in results["webdataset"]["setup"]
    assert not list((tmp_path / "cache" / "data").glob("*/write/*")), "what was written is still there"
    copies = [path.stat().st_nlink for path in (tmp_path / "cache" / "data").glob("*/copies/*/*.jpg")]
    assert copies == [1] * 256


def test_reading_random_samples(photographs, tmp_path):
    document = _quick("random", photographs, tmp_path, "dataplane", "loader", "webdataset", "read")
    results = _results(document)
    assert document["settings"]["threads"] == 1
    for name in ("dataplane", "loader", "webdataset"):
        assert results[name]["checks"]["contents"] == "256 samples read back, equal to their sources byte for byte"
    (target,) = document["targets"]
    assert (target["ours"], target["over"], target["at_least"]) == ("dataplane", "read", 0.5)


@needs_nginx
def test_whole_objects_and_indexing_over_a_server(photographs, tmp_path):
    whole = _results(_quick("whole", photographs, tmp_path))
    assert {name: result["checks"] for name, result in whole.items()} == {
        name: {"objects": 8} for name in ("dataplane", "objects", "obstore")
    }
    document = _quick("index", photographs, tmp_path)
    results = _results(document)
    assert results["dataplane"]["checks"] == results["tarfile"]["checks"] == {"counted": 512}
    assert results["small"]["checks"] == {"counted": 4096}
    assert 0 < results["remote"]["checks"]["bytes_fetched"] < document["data"]["bytes"] / 2
    assert {(target["ours"], target["over"]) for target in document["targets"]} == {("dataplane", "read"), ("small", "read-small")}


@pytest.mark.parametrize("task", ["shards", "where", "resume"])
def test_figures_against_limits(task, tmp_path, monkeypatch):
    module = importlib.import_module(f"benchmarks.tasks.{task}")
    monkeypatch.setattr(module, "TASK", replace(module.TASK, beside=()))  # peers need environments of their own
    document = _quick(task, None, tmp_path)
    assert document["error"] is None
    figures = {limit["figure"]: limit for limit in document["limits"]}
    assert list(figures) == [limit.name for limit in load_task(task).limits]
    assert all(len(limit["values"]) == 1 and limit["median"] > 0 for limit in figures.values())
    for limit in figures.values():
        assert limit["holds"] == (None if limit["at_most"] is None else limit["median"] <= limit["at_most"])
    assert not list((tmp_path / "out").glob("*.svg"))
    assert report.limit_table(document).row_count == len(figures)


def test_a_probe_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = "from benchmarks.limits import answer\ndef probe(job):\n    raise ValueError(job['why'])\nanswer(probe)\n"
    (tmp_path / "broken_probe.py").write_text(text)
    task = LimitTask("broken", "", "broken_probe", (Limit("time", "s", 1.0, ""),), lambda request: None, 1, 1)
    schedule = harness.Schedule(rounds=2, seconds=0, timeout_seconds=60)
    peer = Contender("peer", "broken_probe", "", "", "peer")
    measured = limits.run(
        replace(task, beside=(peer,)), {"why": "no such version"}, schedule, logs=tmp_path, environments=tmp_path, tell=lambda line: None
    )
    assert measured.error == "ValueError: no such version"
    assert measured.beside == {"peer": {"error": "ValueError: no such version"}}


def test_kept_runs_as_a_page(tmp_path):
    def kept(name, task, **more):
        head = {"task": task, "summary": "what", "rounds": 5, "hardware": {"cpu": "a CPU", "busy": 0.1}}
        (tmp_path / name).write_text(json.dumps(head | more))

    contenders = [
        {"contender": name, "role": role, "unit": "images/s", "median": rate, "low": rate, "high": rate, "error": None, "ours_over": over}
        for name, role, rate, over in (("mine", "ours", 2000, None), ("theirs", "peer", 50.25, {"median": 39.8, "low": 39.0, "high": 40.1}))
    ]
    contenders.append({"contender": "other", "role": "peer", "error": "no such library\nand more", "median": None, "ours_over": None})
    kept("1-jpeg.json", "jpeg", results=[], targets=[])
    kept("2-jpeg.json", "jpeg", results=contenders, targets=[])
    figure = {"figure": "resume", "unit": "ms", "at_most": 100.0, "median": 45.5, "low": 40.0, "high": 50.0, "holds": True}
    beside = {"big": {"figures": {"resume": 84317.0}}, "small": {"error": "no memory"}}
    kept("1-resume.json", "resume", limits=[figure], beside=beside, error=None)
    runs = pages.newest(tmp_path, ["resume", "absent", "jpeg"])
    assert [path.name for path, _ in runs] == ["1-resume.json", "2-jpeg.json"]
    made = pages.page(runs, images="images")
    for line in (
        "| resume | 45.5 (40 to 50) ms | 100 ms: reached |",
        "* big: resume 84,317",
        "* small: cannot: no memory",
        "| `mine` | 2,000 (2,000 to 2,000) images/s | – |",
        "| `theirs` | 50.2 (50.2 to 50.2) images/s | 39.80 (39.00 to 40.10) |",
        "| `other` | failed: no such library | |",
        "![jpeg](images/jpeg.svg)",
    ):
        assert line in made
    text = f"before\n{pages.BEGIN}\nold\n{pages.END}\nafter\n"
    assert pages.replaced(pages.replaced(text, "x"), made) == f"before\n{pages.BEGIN}\n\n{made}\n\n{pages.END}\nafter\n"
    with pytest.raises(ValueError, match="needs one line"):
        pages.replaced("nothing", made)
    pages.replaced((ROOT / "docs" / "benchmarks.md").read_text(), made)


def test_contents_that_are_not_the_sources_do_not_count():
    digests = {digest(b"one"): 2, digest(b"two"): 1}
    assert check_contents([b"two", b"one", b"one"], digests) == "3 samples read back, equal to their sources byte for byte"
    for wrong in ([b"one", b"two"], [b"one", b"one", b"two", b"two"], [b"one", b"one", b"twO"]):
        with pytest.raises(VerificationFailed, match="were not read back as often as they should"):
            check_contents(wrong, digests)


def test_an_epoch_that_lacks_a_sample_does_not_count():
    class Lossy:
        setup, packages = "", ()

        def epoch(self):
            return iter([b"one"])

    job = ReadJob(1, 0, "", [], "", 2, 6, {digest(b"one"): 2})
    with pytest.raises(VerificationFailed, match="1 samples of 3 bytes came; 2 of 6 were expected"):
        ReadContender(Lossy(), job).measure(0.1)
    with pytest.raises(VerificationFailed):
        ReadContender(Lossy(), job).verify()


def test_targets_are_held_against_the_fastest_in_the_same_rounds():
    def measured(name, role, rates):
        return {"contender": name, "role": role, "error": None, "rates": rates, "median": sorted(rates)[1]}

    results = [measured("mine", "ours", [4, 6, 8]), measured("slow", "peer", [1, 1, 1]), measured("quick", "peer", [2, 2, 2])]
    reached = report.judged(Target(("slow", "quick"), 3.0), results)
    assert reached["over"] == "quick"
    assert reached["reached"] == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert reached["holds"]
    assert not report.judged(Target(("quick",), 3.1), results)["holds"]
    assert report.judged(Target(("absent",), 1.0), results) is None
    assert report.judged(Target(("quick",), 1.0, ours="other"), results) is None


@needs_nginx
def test_a_server_that_cannot_start_says_why(tmp_path):
    (tmp_path / "access.log").mkdir()
    with pytest.raises(CannotPrepare, match="nginx did not start"), nginx(tmp_path, tmp_path):
        pass


@pytest.mark.parametrize("task", TASKS)
def test_every_task_says_what_it_measures(task):
    loaded = load_task(task)
    assert loaded.name == task
    assert loaded.quick < loaded.samples
    if isinstance(loaded, LimitTask):
        assert importlib.util.find_spec(loaded.module)
        return
    names = {contender.name for contender in loaded.contenders}
    assert all({*target.over, target.ours or target.over[0]} <= names for target in loaded.targets)
    assert all(importlib.util.find_spec(contender.module) for contender in loaded.contenders)


@pytest.mark.parametrize("module", [datasets, environments, feeding])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
