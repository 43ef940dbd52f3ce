"""`Map`: a function of the user's in place of a transform, on threads and in worker processes."""

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dataplane.errors import BadSample, InvalidArgument
from loaders.feed import Draw
from loaders.fields import compile_transform
from loaders.leaving import Leaving, Left, listen
from loaders.source import FieldBytes
from loaders.transforms import CenterCrop, ColorJitter, HorizontalFlip, ImageTransforms, Map, Normalize, Resize, ToFloat, to_dict
from tests import functions
from tests.pictures import picture

IMAGE = picture(0)
DRAW = Draw(7, 0, 1, 5)


def on_a_loaders_thread(call):
    """What `call` gives or raises on a thread that listens, where processes are used."""
    found = []

    def run():
        listen(Leaving())
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def fill(filler, field, draw, out):
    """Have a filler fill a place, in both of its steps."""
    workspace = filler.workspace()
    begun = filler.begin(field, draw, out, workspace, 0)
    if begun is not None:
        filler.finish(begun, workspace)


def filled(transform, data, draw=DRAW, image=None):
    """What a transform of one field makes of its bytes."""
    filler = compile_transform({"field": transform})["field"]
    out = np.zeros((1, *filler.shape), filler.dtype)
    try:
        fill(filler, FieldBytes(np.frombuffer(data, np.uint8), image), draw, out)
    finally:
        filler.close()
    return out[0]


def image_of(*ops, draw=DRAW):
    return filled(list(ops), IMAGE.fields["jpg"], draw, IMAGE.images["jpg"])


@pytest.fixture
def children():
    """No worker process is left behind."""
    yield
    gc.collect()
    until = time.monotonic() + 10
    while left := [process for process in multiprocessing.active_children() if process.name == "dataplane-map"]:
        assert time.monotonic() < until, left
        time.sleep(0.01)


# ------------------------------------------------------------------ fields of bytes


def test_bytes_become_an_array_of_what_was_announced():
    assert filled(Map(functions.number, shape=(2,), dtype=np.int64), b"41").tolist() == [41, os.getpid()]
    assert filled(Map(functions.sizes, shape=(), dtype="int32"), b"12345") == 5
    assert filled(Map(functions.sizes, shape=(), dtype="int32"), b"") == 0


def test_what_fn_gets_cannot_be_written_to():
    with pytest.raises(BadSample, match=r"Map\(writes\) failed: ValueError: assignment destination is read-only"):
        filled(Map(functions.writes, shape=(), dtype="int32"), b"1")


def test_an_exception_makes_a_bad_sample_and_is_chained():
    with pytest.raises(BadSample, match=r"Map\(odd_fails\) failed: ValueError: 7 is odd") as caught:
        filled(Map(functions.odd_fails, shape=(), dtype=np.int64), b"7")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_result_that_is_not_as_announced_is_the_callers_mistake(processes, children):
    op = Map(functions.wrong_shape, shape=(2,), dtype="float32", processes=processes)
    with pytest.raises(InvalidArgument, match=r"wrong_shape returned float64 \[3\] and not the float32 \[2\] that Map announces"):
        on_a_loaders_thread(lambda: filled(op, b"1"))


def test_the_generator_is_the_samples_own():
    op = Map(functions.drawn, shape=(3,), dtype=np.float64, random=True)
    assert (filled(op, b"1") == filled(op, b"another")).all()
    others = [DRAW._replace(position=6), DRAW._replace(epoch=2), DRAW._replace(seed=8), DRAW._replace(component=1)]
    assert len({tuple(filled(op, b"1", draw)) for draw in [DRAW, *others]}) == 5


# ------------------------------------------------------------------ among the transforms of an image


def test_an_image_goes_through_fn_between_resizing_and_normalising():
    resized = image_of(Resize((20, 24)), Map(functions.noisy, random=True), ColorJitter())
    plain = image_of(Resize((20, 24)), ColorJitter())
    inverted = image_of(Resize((20, 24)), HorizontalFlip(0), Map(functions.inverted))
    assert (inverted == 255 - plain).all()
    assert not (resized == plain).all()
    scaled = image_of(Resize((20, 24)), Map(functions.inverted), ToFloat())
    assert np.allclose(scaled, inverted / np.float32(255))


def test_fn_may_change_the_size_where_it_says_so():
    halved = image_of(Resize((20, 24)), Map(functions.halved, shape=(10, 12, 3)), Map(functions.inverted), Normalize.imagenet())
    assert halved.shape == (3, 10, 12)
    assert (
        image_of(Resize((20, 24)), Map(functions.halved, shape=(10, 12, 3))) == image_of(Resize((20, 24)), ColorJitter())[:, ::2, ::2]
    ).all()


def test_what_is_drawn_depends_on_the_place_in_the_list():
    first = image_of(Resize((8, 8)), Map(functions.noisy, random=True))
    assert (first == image_of(Resize((8, 8)), Map(functions.noisy, random=True))).all()
    assert not (first == image_of(Resize((8, 8)), ColorJitter(), Map(functions.noisy, random=True))).all()


@pytest.mark.parametrize(
    ("op", "says"),
    [
        (lambda: Map(7), "must be callable"),
        (lambda: Map(functions.sizes, shape=(-1,)), "at least 0"),
        (lambda: Map(functions.sizes, dtype="words"), "none that numpy knows"),
        (lambda: Map(functions.sizes, dtype="U3"), "numbers or bool"),
        (lambda: Map(functions.sizes, processes=-1), "processes"),
        (lambda: Map(lambda data: data, processes=2), "top of a module.*functools.partial"),
        (lambda: Map(threading.Lock().acquire, processes=2), "must travel"),
        (lambda: compile_transform({"wav": Map(functions.sizes)}), "'wav'.*give it shape"),
        (lambda: compile_transform({"jpg": [Resize((8, 8)), Map(functions.sizes, dtype="float32")]}), "leave dtype out"),
        (lambda: compile_transform({"jpg": [Resize((8, 8)), Map(functions.sizes, shape=(8, 8))]}), r"\[height, width, 3\]"),
        (lambda: compile_transform({"jpg": [Map(functions.sizes), Resize((8, 8))]}), "cannot come after"),
        (lambda: compile_transform({"jpg": [Resize((8, 8)), ToFloat(), Map(functions.sizes)]}), "cannot come after"),
        (lambda: compile_transform({"jpg": [Map(functions.inverted)]}), "leaves? theirs open"),
        (lambda: to_dict(Map(functions.sizes)), "is code"),
        (lambda: ImageTransforms((Resize((8, 8)), Map(functions.inverted))).plan(9, 9, seed=0, component=0, epoch=0, position=0), "Loader"),
    ],
)
def test_what_cannot_work_is_refused(op, says):
    with pytest.raises(InvalidArgument, match=says):
        op()


def test_maps_are_values():
    op = Map(functions.inverted, random=False, processes=2)
    assert op == Map(functions.inverted, processes=2)
    assert len({op, Map(functions.inverted, processes=2), Map(functions.inverted)}) == 2
    assert pickle.loads(pickle.dumps(op)) == op
    assert ImageTransforms((Resize(9), CenterCrop(8), op)).size == (8, 8)


# ------------------------------------------------------------------ worker processes


@pytest.fixture
def filler(children):
    """Makes fillers, and closes them."""
    made = []

    def make(fn, **options):
        arguments = {"shape": (), "dtype": np.int64, "processes": 1} | options
        made.append(compile_transform({"field": Map(fn, **arguments)})["field"])
        return made[-1]

    yield make
    for each in made:
        each.close()


def asked(filler, data, draw=DRAW):
    out = np.zeros((1, *filler.shape), filler.dtype)
    on_a_loaders_thread(lambda: fill(filler, FieldBytes(np.frombuffer(data, np.uint8), None), draw, out))
    return out[0]


def test_processes_do_the_same_and_are_not_this_one(filler):
    there = filler(functions.number, shape=(2,))
    for n in range(20):
        value, pid = asked(there, b"%d" % n)
        assert value == n
        assert pid != os.getpid()
    large = filler(functions.sizes, dtype="int32")
    assert [int(asked(large, bytes(size))) for size in (0, 1, 5 << 20, 3, 9 << 20)] == [0, 1, 5 << 20, 3, 9 << 20]


def test_images_go_through_processes_to_the_same_pixels(children):
    ops = [Resize((20, 24)), Map(functions.noisy, random=True), Map(functions.halved, shape=(10, 12, 3)), Normalize.imagenet()]
    here = image_of(*ops)
    ops[1:3] = [Map(op.fn, op.shape, random=op.random, processes=1) for op in ops[1:3]]
    assert (on_a_loaders_thread(lambda: image_of(*ops)) == here).all()


def test_on_the_callers_own_thread_fn_is_called_there(filler):
    there = filler(functions.number, shape=(2,))
    out = np.zeros((1, 2), np.int64)
    fill(there, FieldBytes(np.frombuffer(b"3", np.uint8), None), DRAW, out)
    assert out[0].tolist() == [3, os.getpid()]


def test_errors_come_back_with_their_trace(filler):
    there = filler(functions.odd_fails)
    for _ in range(2):
        with pytest.raises(BadSample, match=r"Map\(odd_fails\) failed: ValueError: 7 is odd") as caught:
            asked(there, b"7")
        assert isinstance(caught.value.__cause__, ValueError)
        assert "in odd_fails" in caught.value.__cause__.__notes__[0]
        assert asked(there, b"8") == 8
    for function, says in ((functions.stubborn, "Stubborn: first"), (functions.fails_strangely, "Strange: who knows")):
        with pytest.raises(BadSample, match=says) as caught:
            asked(filler(function), b"7")
        assert f"in {function.__name__}" in str(caught.value.__cause__)


def test_worker_processes_load_nothing_but_their_function(filler):
    assert asked(filler(partial(functions.loaded, ("numba", "pyarrow", "torch", "cv2", "loaders.loader"))), b"") == 0


def test_a_process_that_is_killed_is_replaced_and_the_value_tried_again(filler, tmp_path):
    there = filler(partial(functions.dies_once, str(tmp_path / "died")))
    assert asked(there, b"5") == 5
    assert (tmp_path / "died").exists()
    pids = filler(functions.number, shape=(2,))
    first = int(asked(pids, b"1")[1])
    os.kill(first, signal.SIGKILL)
    assert asked(pids, b"2")[0] == 2
    assert asked(pids, b"2")[1] != first


def test_a_value_that_kills_every_process_is_a_bad_sample(filler):
    with pytest.raises(BadSample, match=r"Map\(dies\) failed: the worker process was killed by SIGKILL, and so did another one"):
        asked(filler(functions.dies), b"5")


def test_threads_share_processes_and_interrupts_do_not_reach_them(filler):
    there = filler(functions.number, shape=(2,), processes=2)
    pids, threads = set(), []
    for n in range(8):
        threads.append(threading.Thread(target=lambda n=n: pids.add(int(asked(there, b"%d" % n)[1]))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert 1 <= len(pids) <= 2
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert int(asked(there, b"1")[1]) in pids
    assert asked(filler(functions.ignored_interrupt, dtype=bool), b"")


def test_closing_ends_processes_that_work_and_whoever_waits_for_one(filler):
    there = filler(partial(functions.slow, 60))
    raised = []

    def ask():
        try:
            asked(there, b"1")
        except BaseException as error:
            raised.append(type(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while not multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(1.0)
    began = time.monotonic()
    there.close()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - began < 5
    assert raised == [Left] * 3


def test_closing_ends_a_process_that_is_still_starting(filler):
    there, raised = filler(functions.Late(60)), []

    def ask():
        with pytest.raises(Left) as caught:
            asked(there, b"1")
        raised.append(caught.type)

    thread = threading.Thread(target=ask)
    thread.start()
    until = time.monotonic() + 20
    while not multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.01)
    there.close()
    thread.join(10)
    assert raised == [Left]


def test_what_is_forgotten_ends_its_processes_and_files(children):
    def one():
        filler = compile_transform({"field": Map(functions.number, shape=(2,), dtype=np.int64, processes=1)})["field"]
        return int(asked(filler, b"1")[1])

    one()
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        pid = one()
        gc.collect()
        assert not Path(f"/proc/{pid}").exists()
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_function_that_cannot_be_loaded_there_says_what_to_do(tmp_path):
    program = """
import numpy as np
from loaders.fields import compile_transform
from loaders.leaving import Leaving, listen
from loaders.feed import Draw
from loaders.source import FieldBytes
from loaders.transforms import Map

def mine(data):
    return np.array(1)

filler = compile_transform({"field": Map(mine, shape=(), dtype=np.int64, processes=1)})["field"]
listen(Leaving())
try:
    filler.finish(filler.begin(FieldBytes(np.zeros(1, np.uint8), None), Draw(0, 0, 0, 0), np.zeros((1,), np.int64), None, 0), None)
except ValueError as error:
    print(error)
else:
    print("fine")
"""
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "must be defined at the top of a module that can be imported" in alone.stdout
    script = tmp_path / "script.py"
    script.write_text(program)
    unguarded = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert "needs `if __name__ ==" in unguarded.stdout


def test_a_daemonic_process_is_told_that_it_can_start_none(filler, monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(InvalidArgument, match="must not start others; leave processes out"):
        asked(filler(functions.number, shape=(2,)), b"1")


def test_nothing_outlives_a_parent_that_is_killed(tmp_path):
    program = """
import sys
from functools import partial
import numpy as np
from loaders.fields import compile_transform
from loaders.leaving import Leaving, listen
from loaders.feed import Draw
from loaders.source import FieldBytes
from loaders.transforms import Map
from tests import functions

if __name__ == "__main__":
    listen(Leaving())
    kept = []  # what is forgotten ends its process by itself
    for fn in (functions.number, partial(functions.kills_its_parent, sys.argv[1])):
        filler = compile_transform({"field": Map(fn, shape=(2,), dtype=np.int64, processes=1)})["field"]
        kept.append(filler)
        out = np.zeros((1, 2), np.int64)
        filler.finish(filler.begin(FieldBytes(np.frombuffer(b"1", np.uint8), None), Draw(0, 0, 0, 0), out, None, 0), None)
        print(out[0, 1], flush=True)
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(tmp_path / "works")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == -9
    idle, works, until = int(done.stdout), int((tmp_path / "works").read_text()), time.monotonic() + 10
    while Path(f"/proc/{idle}").exists() or Path(f"/proc/{works}").exists():
        assert time.monotonic() < until, (idle, works)
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what this is about
def test_a_forked_child_starts_its_own(filler):
    there = filler(functions.number, shape=(2,))
    mine = int(asked(there, b"1")[1])
    child = os.fork()
    if not child:
        signal.alarm(30)  # should it hang
        try:
            value, pid = asked(there, b"2")
            there.close()
            os._exit(7 if value == 2 and pid != mine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert int(asked(there, b"1")[1]) == mine
