"""The hot tier among processes: one fetch for all, the limit at every moment, and what `kill -9` leaves."""

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from dataplane.store.local import LocalStore
from tests.hot import Counting, MiB, Stuck, hot_file, put_objects, read, read_everything, taken, time_passes, totals
from tiering import HotStore

ROOT = Path(__file__).parents[2]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def cold(tmp_path):
    return Counting(LocalStore(tmp_path / "cold"), tmp_path / "asked")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "hot"


def together(count, target, *args, look=None, **options):
    """Run `target` in so many processes at once. All must succeed. `look` is called again and again while all of them stand still."""
    processes = [SPAWN.Process(target=target, args=args, kwargs=options | {"seed": n}) for n in range(count)]
    for process in processes:
        process.start()
    while look and (alive := [process for process in processes if process.is_alive()]):
        for process in alive:
            os.kill(process.pid, signal.SIGSTOP)
        for process in alive:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        look()
        for process in alive:
            os.kill(process.pid, signal.SIGCONT)
        alive[0].join(0.005)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


@contextmanager
def child(code, *args):
    """A process that runs `code` with `args` as a list; killed in the end."""
    script = "import pickle, sys\nargs = pickle.loads(bytes.fromhex(sys.argv[1]))\n" + textwrap.dedent(code)
    command = [sys.executable, "-W", "error", "-c", script, pickle.dumps(args).hex()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def stuck(cold, folder, limit_bytes, ref):
    """A process that has half an object."""
    return child(
        """
        from tests.hot import read
        from tiering import HotStore
        cold, folder, limit_bytes, ref = args
        read(HotStore(cold, folder, limit_bytes), ref, 0, 10)
        """,
        Stuck(cold),
        folder,
        limit_bytes,
        ref,
    )


def test_processes_and_threads_share_one_fetch_of_each_object(cold, folder):
    made = put_objects(cold, [MiB] * 6)
    together(4, read_everything, cold, folder, 64 * MiB, [ref for ref, _ in made], threads=8, rounds=1)
    assert sorted(cold.asked()) == sorted((ref.path, 0) for ref, _ in made)
    stats = totals(folder)
    assert (stats.objects, stats.fills, stats.fallthroughs, stats.evictions) == (6, 6, 0, 0)
    assert stats.hits + stats.misses == 4 * 8 * 6


def test_the_limit_holds_while_processes_load_more_than_fits(cold, folder):
    made = put_objects(cold, [MiB // 2] * 16 + [100_000] * 16)
    limit = 4 * MiB
    seen = []
    together(
        3, read_everything, cold, folder, limit, [ref for ref, _ in made], threads=3, rounds=2, look=lambda: seen.append(taken(folder))
    )
    assert 2 * MiB < max(seen) <= limit
    assert len(seen) > 20
    stats = totals(folder)
    assert stats.evictions > 0
    assert stats.fills == stats.evictions + stats.objects
    assert os.listdir(folder / "partial") == []


def test_a_killed_fetch_leaves_nothing_that_counts_or_is_read(cold, folder):
    [(ref, data)] = put_objects(cold, [20 * MiB])
    with stuck(cold, folder, 64 * MiB, ref) as process:
        assert process.stdout.readline() == "stuck\n"
    assert os.listdir(folder / "partial") == [f"{ref.hex}.tar"]
    assert os.listdir(folder / "objects") == []
    with HotStore(cold, folder, 64 * MiB) as hot:
        assert os.listdir(folder / "partial") == []
        assert hot.stats().bytes == 0
        assert read(hot, ref) == data
    assert totals(folder).fills == 1


def test_room_of_a_live_process_counts_and_that_of_a_dead_one_is_reclaimed(cold, folder):
    large, small = put_objects(cold, [20 * MiB, 10 * MiB])
    with HotStore(cold, folder, 24 * MiB) as hot:
        with stuck(cold, folder, 24 * MiB, large[0]) as process:
            assert process.stdout.readline() == "stuck\n"
            assert read(hot, small[0]) == small[1]
            assert (hot.stats().fallthroughs, hot.stats().objects) == (1, 0)
            assert hot.stats().bytes == 20 * MiB
        time_passes(hot)
        assert read(hot, small[0]) == small[1]
        assert (hot.stats().fallthroughs, hot.stats().objects) == (1, 1)


def test_who_waits_for_a_killed_process_takes_over(cold, folder):
    [(ref, data)] = put_objects(cold, [20 * MiB])
    with stuck(cold, folder, 64 * MiB, ref) as process:
        assert process.stdout.readline() == "stuck\n"
        waiter = child(
            """
            from tests.hot import read
            from tiering import HotStore
            cold, folder, limit_bytes, ref = args
            with HotStore(cold, folder, limit_bytes) as store:
                print("waiting", flush=True)
                read(store, ref)
                print(store.stats().fills, flush=True)
            """,
            cold,
            folder,
            64 * MiB,
            ref,
        )
        with waiter as other:
            assert other.stdout.readline() == "waiting\n"
            process.kill()
            assert other.stdout.readline() == "1\n"
            assert other.wait() == 0
    assert hot_file(folder, ref).read_bytes() == data


def test_kills_at_any_moment_leave_no_wrong_bytes_and_no_lost_room(cold, folder):
    made = put_objects(cold, [MiB // 4] * 12)
    refs = {f"{ref.hex}.tar": data for ref, data in made}
    limit, source, survivors = 2 * MiB, random.Random(1), 0
    for _ in range(8):
        reader = child(
            """
            from tests.hot import read_for_ever
            read_for_ever(*args)
            """,
            cold.inner,
            folder,
            limit,
            [ref for ref, _ in made],
        )
        with reader as process:
            assert process.stdout.readline() == "reading\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(source.uniform(0.01, 0.15))
            process.send_signal(signal.SIGKILL)
        assert taken(folder) <= limit
        left = [name for name in os.listdir(folder / "objects") if os.stat(folder / "objects" / name).st_size]
        assert all((folder / "objects" / name).read_bytes() == refs[name] for name in left)
        survivors += len(left)
        with HotStore(cold.inner, folder, limit) as hot:
            assert os.listdir(folder / "partial") == []
            assert hot.stats().bytes == sum((folder / "objects" / name).stat().st_size for name in os.listdir(folder / "objects"))
            for ref, data in made:
                assert read(hot, ref) == data
            assert hot.stats().fallthroughs == 0
    assert survivors > 0


def test_a_forked_child_reads_with_files_of_its_own(cold, folder):
    made = put_objects(cold, [1000] * 2)
    forking = child(
        """
        import os, threading
        from tests.hot import read
        from tiering import HotStore
        (cold, folder, limit_bytes, made) = args
        (hot, new) = made
        store = HotStore(cold, folder, limit_bytes)
        assert read(store, hot[0]) == hot[1]
        path = store.local_path(hot[0])
        inherited = store._live()
        if (pid := os.fork()) == 0:
            assert not inherited._handles._all
            assert read(store, hot[0]) == hot[1]
            assert store._live() is not inherited
            assert read(store, new[0]) == new[1]
            store.delete(hot[0].path)   # in use by the parent
            assert path.exists()
            store.close()
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        assert read(store, new[0]) == new[1]
        assert path.read_bytes() == hot[1]
        with HotStore(cold, folder, limit_bytes) as other:
            other.delete(hot[0].path)
            assert path.exists()        # the child's exit has not unlocked it
        store.close()
        print("done", flush=True)
        """,
        cold,
        folder,
        MiB,
        made,
    )
    with forking as process:
        assert process.stdout.readline() == "done\n"
        assert process.wait() == 0
    assert totals(folder).hits == 2  # one of the child's, one of the parent's


def test_counters_survive_a_store_that_nobody_closes(cold, folder):
    made = put_objects(cold, [1000] * 2)
    careless = child(
        """
        from tests.hot import read
        from tiering import HotStore
        cold, folder, refs = args
        store = HotStore(cold, folder, 1 << 20)
        for ref in refs * 2:
            read(store, ref)
        """,
        cold,
        folder,
        [ref for ref, _ in made],
    )
    with careless as process:
        assert process.wait() == 0
    assert (totals(folder).hits, totals(folder).misses) == (2, 2)
    assert blake3(hot_file(folder, made[0][0]).read_bytes()).hexdigest() == made[0][0].hex
