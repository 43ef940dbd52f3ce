"""The hot tier on disks that are full, read-only or damaged, and in front of an S3 server: no job fails because of it."""

import logging
import os
import shutil
import subprocess

import pytest

from dataplane.store import open_store
from dataplane.store.local import LocalStore
from tests.hot import Counting, MiB, flip, hot_file, put_objects, read, taken, time_passes, totals
from tiering import Hot, HotStore


@pytest.fixture
def cold(tmp_path):
    return Counting(LocalStore(tmp_path / "cold"), tmp_path / "asked")


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MiB; `remount` with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def remount(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def test_a_full_disk_falls_through(cold, disk, caplog):
    made = put_objects(cold, [MiB] * 6)
    with caplog.at_level(logging.DEBUG), Hot(disk / "hot", limit="1 GiB").wrap(cold) as hot:
        for _ in range(2):
            for ref, data in made:
                assert read(hot, ref) == data
        stats = hot.stats()
        assert 0 < stats.fallthroughs < 12
        assert stats.hits >= 2
        assert os.listdir(disk / "hot" / "partial") == []
        assert [record.levelname for record in caplog.records].count("WARNING") == 1
        assert "No space left" in caplog.text or "full" in caplog.text
        remount(disk, "size=64m")
        time_passes(hot)
        for ref, data in made:
            assert read(hot, ref) == data
        assert hot.stats().objects == 6


def test_a_disk_with_no_room_for_even_the_index_falls_through(cold, disk):
    [(ref, data)] = put_objects(cold, [1000])
    with open(disk / "filler", "wb", buffering=0) as filler:
        assert filler.write(bytes(8 * MiB)) < 8 * MiB
    with HotStore(cold, disk / "hot", MiB) as hot:
        for _ in range(2):
            assert read(hot, ref) == data
        assert hot.stats().fallthroughs == 2


def test_a_read_only_directory_serves_what_it_has(cold, disk):
    made = put_objects(cold, [1000] * 2)
    with HotStore(cold, disk / "hot", MiB) as hot:
        assert read(hot, made[0][0]) == made[0][1]
    remount(disk, "ro")
    with HotStore(cold, disk / "hot", MiB) as hot:
        for _ in range(2):
            for ref, data in made:
                assert read(hot, ref) == data
        hot.reject(made[0][0])
        hot.offer(made[1][0], cold.inner.root / made[1][0].path)
        stats = hot.stats()
        assert (stats.hits, stats.misses, stats.fallthroughs) == (2, 2, 2)


def test_a_read_only_empty_directory_falls_through(cold, disk):
    [(ref, data)] = put_objects(cold, [1000])
    remount(disk, "ro")
    with HotStore(cold, disk / "hot", MiB) as hot:
        assert read(hot, ref) == data
        assert bytes(hot.get(ref.path).buffer()) == data
        assert hot.local_path(ref) is None
        assert hot.stats().fallthroughs == 3


def test_a_disk_that_becomes_read_only_under_way_falls_through(cold, disk):
    made = put_objects(cold, [1000] * 3)
    hot = HotStore(cold, disk / "hot", MiB)
    assert read(hot, made[0][0]) == made[0][1]
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
    try:
        with HotStore(cold, disk / "hot", MiB) as late:
            assert read(late, made[0][0]) == made[0][1]
            assert read(late, made[1][0]) == made[1][1]
            assert late.stats().fallthroughs == 1
    finally:
        subprocess.run(["umount", "-l", disk], check=True)  # SQLite keeps a file open while the process has locks on it
    assert read(hot, made[2][0]) == made[2][1]
    hot.close()
    assert totals(disk / "hot").fills == 2


def test_an_index_damaged_while_in_use_is_made_anew(cold, tmp_path):
    folder = tmp_path / "hot"
    made = put_objects(cold, [1000] * 4)
    with HotStore(cold, folder, MiB) as hot:
        assert read(hot, made[0][0]) == made[0][1]
        with HotStore(cold, folder, MiB) as other:
            (folder / "index.sqlite").unlink()
            for ref, data in made:
                assert read(other, ref) == data
            assert other.stats().objects == 4
        assert read(hot, made[3][0]) == made[3][1]
        assert hot.stats().objects == 4
        assert hot.stats().fallthroughs == 0
    assert len(cold.asked()) == 4


def test_the_directory_may_be_removed_while_in_use(cold, tmp_path):
    made = put_objects(cold, [1000] * 2)
    with HotStore(cold, tmp_path / "hot", MiB) as hot:
        assert read(hot, made[0][0]) == made[0][1]
        shutil.rmtree(tmp_path / "hot")
        for ref, data in made:
            assert read(hot, ref) == data


def test_in_front_of_an_s3_server(s3, tmp_path):
    cold = open_store(s3.url())
    made = put_objects(cold, [10 * MiB, 1000])
    with Hot(tmp_path / "hot", limit="64 MiB").wrap(cold) as hot:
        for ref, data in made:
            assert read(hot, ref) == data
            flip(hot_file(tmp_path / "hot", ref), 5)
            hot.reject(ref)
            assert read(hot, ref) == data
        assert (hot.stats().fills, hot.stats().corrupt) == (4, 2)
        assert taken(tmp_path / "hot") < 12 * MiB
