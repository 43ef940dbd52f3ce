"""`show --stats` and `head`: what users, scripts and browsers get."""

import io
import json
import re
import uuid
import wave

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.catalog import Change
from dataplane.cli import build
from dataplane.errors import InvalidArgument, NotFound, PermissionDenied
from dataplane.formats.index import ImageInfo
from dataplane.intervals import Numbers
from dataplane.parts import split_counts
from dataplane.schema import Field, Schema
from dataplane.stats import head, statistics
from dataplane.stats.page import head_page, statistics_page
from dataplane.stats.terminal import sparkline
from dataplane.testing.samples import Made, sample_lake, write_dataset
from tests.pages import Page, chromium

HOSTILE = "<script>alert('x')</script> & \"z\" [red]\x1b[31m"
SHOWN = HOSTILE.replace("\x1b", "\\x1b")  # in a terminal
SCHEMA = Schema(
    (Field("cls", "class"), Field("npy", "bytes"), Field("png", "image"), Field("txt", "bytes"), Field("wav", "bytes")), (HOSTILE, "b")
)


def sound():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((np.sin(np.linspace(0, 90, 4000)) * 20_000).astype("<i2").tobytes())
    return out.getvalue()


def everything(number):
    """A sample with a picture, a sound, text and an array."""
    picture, array = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)).save(picture, "PNG")
    np.save(array, np.random.default_rng(number).random((12, 30)))
    fields = {"png": picture.getvalue(), "npy": array.getvalue(), "wav": sound(), "txt": HOSTILE.encode()[:-5], "cls": b"%d" % (number % 2)}
    return Made(f"{HOSTILE}{number}", fields, {"png": ImageInfo(80, 60)}, (HOSTILE, "b")[number % 2])


@pytest.fixture(scope="module")
def lake():
    """A lake of samples of every kind, whose names are what nobody wants in a page or a terminal; the last picture is broken."""
    made = Lake.init(f"memory://{uuid.uuid4().hex}")
    broken = Made("broken", {"png": everything(0).fields["png"][:-30], "cls": b"9"}, {"png": ImageInfo(80, 60)})
    shards = [("train", [everything(n) for n in range(8)]), ("test", [everything(8), broken])]
    write_dataset(made, "all", shards, schema=SCHEMA)
    return made


@pytest.fixture(scope="module")
def pages(lake):
    return {
        "statistics": statistics_page(statistics(lake, "all"), head(lake, "all", count=24, seed=0)),
        "samples": head_page("all/train", head(lake, "all", count=10)),
    }


# ------------------------------------------------------------------ pages


@pytest.mark.parametrize("name", ["statistics", "samples"])
def test_a_page_needs_nothing_else(pages, name):
    page = Page(pages[name])
    assert len(page.addresses) >= 9
    assert all(address.startswith("data:") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"@import|url\(|https?://", pages[name])
    assert "prefers-color-scheme: dark" in pages[name]


def test_names_are_text(pages):
    for text in pages.values():
        assert "<script" not in text
        assert "alert" in Page(text).text


def test_what_the_page_of_statistics_says(pages):
    text = Page(pages["statistics"]).text
    for part in (
        "all@1",
        "10",
        "train",
        "test",
        "tar",
        "Bytes of a sample",
        "Width × height",
        "Normalize(mean=(",
        "1 cannot be decoded",
        "truncated",
    ):
        assert part in text, part
    assert "no label" in text


def test_what_the_page_of_samples_says(pages):
    text = pages["samples"]
    assert text.count("<article") == 10
    assert text.count("<audio") == 9
    assert text.count("heat map") == 9
    assert text.count("data:image/jpeg") == 9
    assert "cannot be decoded: truncated" in text


def test_pages_of_next_to_nothing():
    lake = Lake.init(f"memory://{uuid.uuid4().hex}")
    lake.catalog.commit("none", lambda _: Change("write", {}, SCHEMA, (), {}))
    Page(statistics_page(statistics(lake, "none"), ()))
    Page(head_page("none", ()))
    write_dataset(lake, "text", [("train", [Made("a", {"txt": b"hello"})])], schema=Schema((Field("txt", "bytes"),)))
    text = Page(statistics_page(statistics(lake, "text"), head(lake, "text"))).text
    assert "No sample has a label." in text
    assert "Colours" not in text
    assert "hello" in text


def test_many_labels_are_cut_and_counted():
    lake = Lake.init(f"memory://{uuid.uuid4().hex}")
    made = [Made(f"{n}", {"txt": b"x"}, {}, f"class {n:03d}") for n in range(100)]
    classes = tuple(f"class {n:03d}" for n in range(130))
    write_dataset(lake, "many", [("train", made)], schema=Schema((Field("txt", "bytes"),), classes))
    text = Page(statistics_page(statistics(lake, "many"), ())).text
    assert "70 more labels" in text
    assert "30 classes have no sample in this version: class 100, " in text


@pytest.mark.parametrize("name", ["statistics", "samples"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_and_nothing_is_wider_than_the_window(pages, tmp_path, name, width):
    measure = """
        const page = document.getElementById('f').contentDocument, root = page.documentElement;
        const drawn = page.images.length > 8 && [...page.images].every(image => image.naturalWidth > 1);
        const named = [...page.querySelectorAll('svg')].every(drawing => drawing.querySelector('title').textContent);
        document.title = 'out ' + (root.scrollWidth - root.clientWidth) + ' images ' + drawn + ' titles ' + named;
    """
    frame = tmp_path / "frame.html"
    text = pages[name].replace("&", "&amp;").replace('"', "&quot;")
    frame.write_text(f'<iframe id="f" width="{width}" height="800" style="border:0" srcdoc="{text}" onload="{measure}"></iframe>')
    told = chromium("--dump-dom", frame.as_uri(), folder=tmp_path / "profile")
    assert "<title>out 0 images true titles true</title>" in told


# ------------------------------------------------------------------ commands


@pytest.fixture(scope="module")
def app():
    return build()


@pytest.fixture
def run(app, lake, monkeypatch):
    """Run a command on the lake; `code` is the exit code to expect."""
    monkeypatch.setenv("DATAPLANE_LAKE", lake.url)
    monkeypatch.setattr("dataplane.output.Lake", lambda url: lake if url == lake.url else Lake(url))  # memory stores are this process's

    def run_(*arguments, code=0):
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run_


def test_show_counts_objects(run):
    document = run("show", "all", "--json")
    assert document["objects"] == [{"format": "tar", "adopted": False, "objects": 2, "bytes": document["objects"][0]["bytes"]}]
    assert "stats" not in document
    assert "in the lake" in run("show", "all")


def test_show_with_statistics(run, tmp_path):
    document = run("show", "all", "--stats", "--json", code=3)
    stats = document["stats"]
    assert stats["samples"] == 10
    assert stats["labels"] == {HOSTILE: {"test": 1, "train": 4}, "b": {"train": 4}}
    assert stats["unlabelled"] == {"test": 1}
    assert stats["images"]["count"] == 9
    assert [bad["key"] for bad in stats["images"]["bad"]] == ["broken"]
    page = tmp_path / "page.html"
    text = run("show", "all", "--html", str(page), "--images", "all", code=3)
    assert f"Next: open {page} in a browser" in text
    assert "over all pixels of 9 pictures" in text
    assert "broken: png: truncated" in text
    assert "\x1b" not in text
    assert SHOWN[:20] in text
    Page(page.read_text())
    assert run("show", "all", "--stats", "--images", "1", "--json")["stats"]["images"]["count"] == 1


def test_head(run, tmp_path):
    rows = run("head", "all/train", "-n", "3", "--json")
    assert [row["key"] for row in rows] == [f"{HOSTILE}{n}" for n in range(3)]
    assert rows[0].keys() == {"key", "split", "label", "fields", "metadata"}
    assert rows[0]["fields"]["npy"] == {
        "kind": "array",
        "preview": rows[0]["fields"]["npy"]["preview"],
        "shape": [12, 30],
        "dtype": "float64",
    }
    assert rows[0]["fields"]["wav"]["preview"] == "0.50 s, 8,000 Hz, mono"
    text = run("head", "all")
    assert "Next: dataplane head all --html samples.html" in text
    assert "\x1b" not in text
    page = tmp_path / "page.html"
    assert f"open {page}" in run("head", "all", "--seed", "4", "--html", str(page))
    Page(page.read_text())


def test_what_is_asked_wrongly(run, tmp_path):
    for arguments in (["show", "all", "--stats", "--images", "0"], ["show", "all", "--images", "some"], ["head", "all", "-n", "0"]):
        with pytest.raises(InvalidArgument):
            run(*arguments)
    with pytest.raises((NotFound, PermissionDenied), match="nowhere"):
        run("head", "all", "--html", str(tmp_path / "nowhere" / "page.html"))


def test_log_marks_what_is_expired(app, tmp_path):
    lake = sample_lake(str(tmp_path / "lake"))
    newest = lake.dataset("pictures")
    change = Change("expire", {}, newest.schema, newest.version.parts, split_counts(newest.parts), expired=Numbers.of([1]))
    lake.catalog.commit("pictures", lambda _: change)

    def run(*arguments):
        return CliRunner().invoke(app, ["--lake", lake.url, "log", "pictures", *arguments], catch_exceptions=False).stdout

    assert [(row["version"], row["operation"], row["expired"]) for row in json.loads(run("--json"))] == [
        (2, "expire", False),
        (1, "write", True),
    ]
    assert re.search(r"1 .* expired", run())


def test_sparklines():
    assert sparkline([]) == sparkline([0, 0]) == ""
    assert sparkline([0, 1, 1000, 500]) == " ▂█▅"
    assert len(sparkline(range(50))) == 50
