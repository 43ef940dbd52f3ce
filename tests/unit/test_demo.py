"""The demo's parts: what it plans, counts, draws and writes, and which files it leaves alone."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from dataplane.errors import InvalidArgument
from tests.pages import Page, chromium
from train.config import parse_config
from train.demo import history
from train.demo.command import demo
from train.demo.digits import write_digits
from train.demo.processes import Command, DemoFailed, run, started, stop
from train.demo.recipe import Recipe, choose, configuration
from train.demo.report import render
from train.demo.samples import Delivery, EpochCheck, SampleCheck, check_samples, ensure_exactly_once, read_deliveries
from train.demo.story import Crash, Interval, Picture, Step, Story, TimeUse, Validation
from train.demo.tour import Tour
from train.demo.workspace import workspace
from train.progress import bar

CRASH = Crash(epoch=2, killed_step=120, resumed_step=110, position=640, undone=320)
HOSTILE = "<script>alert('x')</script> & \"z\""


def story(**changes):
    """A made-up story."""
    values = {
        "title": "Digits",
        "accuracy": 0.979,
        "samples": 1797,
        "classes": 10,
        "tested": 198,
        "seconds": 41.2,
        "steps": (
            Step("Ingest", "Reads.", "dataplane ingest a b --split train=0.8", 2.5, "b@1", {"version": 1}, "done"),
            Step("Kill", "Kills.", "", 0.0, "killed", {}, "killed"),
        ),
        "pictures": (Picture("7", "7/0001", 8, b"\x89PNG"), Picture("3", "3/0002", 8, b"\x89PNG")),
        "intervals": tuple(Interval(step, 2 / step, 900.0 + step, None if step < 20 else 1.0) for step in range(5, 361, 5)),
        "validations": (Validation(180, 0.2, 0.9), Validation(360, 0.1, 0.98)),
        "crash": CRASH,
        "check": SampleCheck(tuple(EpochCheck(epoch, 1416, 1416, 0, 0, 0) for epoch in range(8))),
        "times": (TimeUse("Before the kill", 0.2, 1.7, 0.9, 0.7), TimeUse("After the resume", 0.0, 0.0, 0.0, 0.0)),
        "facts": (("Dataset", "digits@1"),),
        "next_commands": (("Serve it again:", "dataplane serve digits"),),
    }
    return Story(**(values | changes))


# ------------------------------------------------------------------ report


def test_the_report_needs_nothing_else():
    text = render(story())
    page = Page(text)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.addresses
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"@import|url\(|https?://", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_report_says_what_was_done():
    text = Page(render(story())).text
    for part in (
        "97.9%",
        "1,797",
        "41 s",
        "Exactly once",
        "dataplane ingest a b --split train=0.8",
        "3 (killed and resumed)",
        "320 samples",
    ):
        assert part in text
    assert "resumed here" in text
    assert "digits@1" in text


def test_a_failed_check_does_not_look_like_a_good_one():
    bad = SampleCheck((EpochCheck(2, 10, 10, 1, 1, 0),))
    text = Page(render(story(check=bad))).text
    assert "Not exactly once" in text
    assert "✗" in text
    assert "✓" not in text


def test_names_in_the_report_are_text():
    text = render(
        story(
            title=HOSTILE,
            pictures=(Picture(HOSTILE, HOSTILE, 64, b""),),
            steps=(Step(HOSTILE, HOSTILE, HOSTILE, 1.0, HOSTILE, {}, "done"),),
            facts=((HOSTILE, HOSTILE),),
            next_commands=((HOSTILE, HOSTILE),),
        )
    )
    page = Page(text)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 9
    assert 'class="pictures large"' in text


@pytest.mark.parametrize("width", [320, 360, 390, 560, 721, 1280])
def test_the_report_can_be_read_on_a_screen_of_any_width(tmp_path, width):
    measure = """
        const page = document.getElementById('f').contentDocument, look = document.getElementById('f').contentWindow.getComputedStyle;
        const all = chosen => [...page.querySelectorAll(chosen)];
        const hidden = all('html, .scroll, .scroll table, .head').filter(box => box.scrollWidth > box.clientWidth).length;
        const scale = text => text.closest('svg').getBoundingClientRect().width / 440;
        const letters = Math.min(...all('svg text').map(text => parseFloat(look(text).fontSize) * scale(text)));
        const tracks = new Set(all('.length').map(track => { const box = track.getBoundingClientRect(); return box.x + ' ' + box.width; }));
        document.title = 'hidden ' + hidden + ' letters ' + (letters >= 11 || letters) + ' tracks ' + tracks.size;
    """
    names = ("Show", "Look at the hot tier", "Train, and kill it")
    steps = tuple(Step(name, "Why.", "", 100.0 * place, "done", {}, "done") for place, name in enumerate(names))
    text = render(story(steps=steps)).replace("&", "&amp;").replace('"', "&quot;")
    frame = tmp_path / "frame.html"
    frame.write_text(f'<iframe id="f" width="{width}" height="800" style="border:0" srcdoc="{text}" onload="{measure}"></iframe>')
    told = chromium("--dump-dom", "--hide-scrollbars", frame.as_uri(), folder=tmp_path / "profile")
    assert "<title>hidden 0 letters true tracks 1</title>" in told


def test_a_report_of_almost_nothing_is_a_page():
    Page(render(story(steps=(), pictures=(), intervals=(), validations=(), times=())))


# ------------------------------------------------------------------ what training recorded


def row(step, hits, misses, loss=1.0):
    hot = {"hits": hits, "misses": misses}
    loader = {"hot": hot, "wait_seconds": 0.1 * step, "consumer_seconds": 1.0, "read_seconds": 2.0, "decode_seconds": 3.0}
    return {"step": step, "loss": loss, "samples_per_second": 10.0, "loader": loader}


def test_counters_begin_again_in_the_process_that_resumes():
    rows = [row(100, 6, 4), row(110, 16, 4), {"step": 110, "val_loss": 0.5, "val_accuracy": 0.9}, row(120, 8, 2), row(130, 8, 2, loss=None)]
    assert [each.hit_rate for each in history.intervals(rows, CRASH)] == [0.6, 1.0, 0.8]
    assert history.validations(rows) == (Validation(110, 0.5, 0.9),)
    before, after = history.times(rows, CRASH)
    assert (before.name, before.wait_seconds) == ("Before the kill", 11.0)
    assert (after.name, after.wait_seconds, after.decode_seconds) == ("After the resume", 13.0, 3.0)


def test_a_tier_that_was_asked_for_nothing_has_no_hit_rate():
    assert history.intervals([row(100, 0, 0)], CRASH)[0].hit_rate is None
    without = row(100, 0, 0)
    without["loader"]["hot"] = None
    assert history.intervals([without], CRASH)[0].hit_rate is None


# ------------------------------------------------------------------ the sample log


def log(*steps):
    return [Delivery(epoch, number, tuple(keys)) for number, (epoch, keys) in enumerate(steps, 1)]


def test_every_sample_exactly_once():
    check = check_samples(log((0, "ab"), (0, "c"), (1, "ca"), (1, "b")), list("abc"), epochs=2)
    assert check.ok
    ensure_exactly_once(check)
    assert [epoch.delivered for epoch in check.epochs] == [3, 3]


@pytest.mark.parametrize(
    ("keys", "missing", "repeated", "foreign"),
    [("ab", 1, 0, 0), ("abcc", 0, 1, 0), ("abb", 1, 1, 0), ("abcx", 0, 0, 1), ("", 3, 0, 0), ("aaaxx", 2, 2, 2)],
)
def test_what_is_wrong_is_counted(keys, missing, repeated, foreign):
    check = check_samples(log((0, "abc"), (1, keys)), list("abc"), epochs=2)
    assert not check.ok
    with pytest.raises(DemoFailed, match=f"once. epoch 2: {missing} of 3 missing, {repeated} repeated, {foreign} foreign$"):
        ensure_exactly_once(check)
    first, second = check.epochs
    assert first.ok
    assert (second.missing, second.repeated, second.foreign, second.delivered) == (missing, repeated, foreign, len(keys))


def test_an_epoch_that_should_not_be_is_wrong():
    assert not check_samples(log((0, "abc"), (1, "a")), list("abc"), epochs=1).ok
    assert not check_samples(log((0, "abc")), list("abc"), epochs=2).ok


def test_a_torn_line_is_left_out(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"epoch": 0, "step": 1, "keys": ["a"], "run": "r"}\n{"epoch": 0, "st')
    assert read_deliveries(path) == (Delivery(0, 1, ("a",)),)


# ------------------------------------------------------------------ the recipe


@given(st.integers(16, 200_000), st.floats(1, 5000), st.booleans())
@settings(deadline=None)
def test_kills_come_in_the_middle_of_an_epoch_after_one_of_its_checkpoints(samples, side, mirror):
    recipe = choose(samples, side, mirror=mirror)
    steps = list(recipe.kill_steps())
    assert steps
    for step in steps:
        epoch, within = divmod(step, recipe.steps)
        assert 1 <= epoch < recipe.epochs - 1
        assert step % recipe.log_every == 0  # else it is never reported
        assert step % recipe.checkpoint_every
        checkpoint = step // recipe.checkpoint_every * recipe.checkpoint_every
        assert checkpoint > epoch * recipe.steps
        assert within < recipe.steps - recipe.steps // 8
    assert recipe.log_every < recipe.steps
    assert 8 <= recipe.side <= 48


def test_the_configuration_is_one(tmp_path):
    recipe = Recipe(samples=1416, side=8, mirror=True, epochs=8, batch_size=32)
    path = tmp_path / 'a "b" \\ c' / "hot"
    text = configuration(recipe, dataset="digits", lake=Path("demo/lake"), config=Path("demo/train.toml"), hot=path)
    checked = parse_config(tomllib.loads(text), where="the demo")
    assert checked.hot.directory == str(path)
    assert (checked.epochs, checked.batch_size, checked.checkpoint_every) == (8, 32, 11)
    assert [op["op"] for op in checked.data.transform] == ["RandomResizedCrop", "HorizontalFlip", "Normalize"]
    assert "dataplane --lake demo/lake train demo/train.toml" in text


def test_too_few_pictures_are_refused():
    with pytest.raises(InvalidArgument, match="at least 16"):
        choose(15, 8, mirror=False)


# ------------------------------------------------------------------ files


def test_digits_are_written_with_their_own_pixels(tmp_path):
    from sklearn.datasets import load_digits

    assert write_digits(tmp_path / "pictures") == 1797
    files = sorted(tmp_path.glob("pictures/*/*.png"))
    assert len(files) == 1797
    digits = load_digits()
    for path in files[::100]:
        number = int(path.stem)
        assert path.parent.name == str(digits.target[number])
        with Image.open(path) as picture:
            assert np.array_equal(np.rint(np.asarray(picture) / 255 * 16), digits.images[number])


def test_a_demo_replaces_only_what_a_demo_made(tmp_path):
    root = tmp_path / "demo"
    with workspace(root) as place:
        (place.lake / "objects").mkdir(parents=True)
        place.report.write_text("old")
        (root / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (root / "hot").symlink_to(elsewhere)
    with workspace(root) as place:
        assert not place.lake.exists()
        assert not place.report.exists()
        assert not place.hot.is_symlink()
    assert (root / "notes.txt").read_text() == "mine"
    assert (elsewhere / "precious").exists()


def test_a_folder_with_other_contents_is_left_alone(tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "data").touch()
    with pytest.raises(InvalidArgument, match="no demo made"), workspace(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]
    with pytest.raises(InvalidArgument, match="is a file"), workspace(tmp_path / "lake" / "data"):
        pass


def test_two_demos_do_not_share_a_folder(tmp_path):
    with workspace(tmp_path / "demo") as place:
        place.report.write_text("of the first")
        with pytest.raises(InvalidArgument, match="another demo is running"), workspace(place.root):
            pass
        assert place.report.exists()
    with open(tmp_path / "demo" / ".dataplane-demo") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("data", ["demo/pictures", ".", "demo"])
def test_pictures_within_the_demo_are_refused_before_anything_is_removed(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with workspace(Path("demo")) as place:
        place.pictures.mkdir()
    with pytest.raises(InvalidArgument, match="within each other"):
        demo(data=Path(data), directory=Path("demo"))
    assert Path("demo/pictures").is_dir()
    with pytest.raises(InvalidArgument, match="no folder"):
        demo(data=Path("nowhere"), directory=Path("demo"))


# ------------------------------------------------------------------ processes and steps


def test_commands_are_shown_as_typed():
    assert str(Command(("ingest", "my pictures", "x"), ("OMP_NUM_THREADS=1",))) == "OMP_NUM_THREADS=1 dataplane ingest 'my pictures' x"


def test_a_failing_command_fails_the_demo(tmp_path):
    command = Command(("--lake", str(tmp_path / "none"), "ls"))
    with pytest.raises(DemoFailed, match=r"exit code 1 from: dataplane --lake .*none ls"):
        run(command)
    assert run(command, allowed=(1,))["error"]["kind"] == "not-a-lake"


def test_a_command_is_ended_with_its_block(tmp_path):
    with pytest.raises(ZeroDivisionError), started(Command(("--lake", str(tmp_path / "none"), "ls")), watch=False) as process:
        _ = 1 / 0
    assert process.returncode is not None


def test_stopping_interrupts_the_whole_group():
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    command = [sys.executable, "-c", nested]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0
    ) as process:
        assert process.stdout.readline() == "1\n"
        stop(process)
        assert process.returncode != 0
        assert process.stdout.read() == ""  # the end of the pipe: the grandchild has gone too
        stop(process)


def test_training_tells_its_steps_in_lines(capsys):
    with bar("run", shown=True) as show:
        show({"step": 60, "epoch": 3, "samples": 90, "total": 100, "loss": 0.25, "samples_per_second": 1234.5})
        show({"step": 60, "epoch": 3, "samples": 90, "val_loss": 0.5, "val_accuracy": 0.75})
    with bar("run", shown=False) as show:
        show({"step": 70, "epoch": 3, "samples": 90, "total": 100, "loss": 0.25, "samples_per_second": 1234.5})
    told = capsys.readouterr().err
    assert told == "step 60, epoch 3: loss 0.2500, 1,234 samples/s\nstep 60, epoch 3: val loss 0.5000, val accuracy 0.750\n"


def test_a_tour_tells_and_keeps_its_steps(capsys):
    tour = Tour(Console(width=100))
    result = tour.step("Name", "Why [x].", "dataplane [y]", lambda: ("done [z]", {"a": 1}), kind="killed")
    told = capsys.readouterr().out
    assert "Why [x]." in told
    assert "$ dataplane [y]" in told
    assert "✓ done [z] (0.0 s)" in told
    assert result == {"a": 1}
    (step,) = tour.steps
    assert step.to_json() == {
        "name": "Name",
        "command": "dataplane [y]",
        "seconds": round(step.seconds, 3),
        "outcome": "done [z]",
        "result": {"a": 1},
    }
