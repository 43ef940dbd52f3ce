"""`HotStore` in one process: what it caches, what it passes on, and what it does when something is wrong."""

import gc
import logging
import os
import pickle
import threading

import numpy as np
import pytest

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument, NotFound, StoreUnavailable
from dataplane.objects import REMEDY
from dataplane.refs import Digest, Foreign
from dataplane.store import LocalPath, Offer, ReadInto, Reject, WrapperStore
from dataplane.store.local import LocalStore
from tests.hot import Counting, MiB, Wrong, flip, hot_file, put_objects, read, taken, time_passes, totals
from tiering import Hot, HotStore
from tiering.layout import MIN_LIMIT_BYTES


@pytest.fixture
def cold(tmp_path):
    return Counting(LocalStore(tmp_path / "cold"), tmp_path / "asked")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "hot"


@pytest.fixture
def hot(cold, folder):
    with Hot(folder, limit="4 MiB").wrap(cold) as store:
        yield store


def objects(folder):
    return sorted(os.listdir(folder / "objects"))


def test_an_object_is_fetched_once_and_read_from_the_disk(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [300_000])
    assert read(hot, ref, 5, 1000) == data[5:1000]
    assert read(hot, ref) == data
    assert bytes(hot.get(ref.path).buffer()) == data
    assert bytes(hot.get_range(ref.path, start=7, length=9)) == data[7:16]
    assert [bytes(piece) for piece in hot.get_ranges(ref.path, starts=[0, 9], ends=[3, 9])] == [data[:3], b""]
    assert cold.asked() == [(ref.path, 0)]
    assert hot_file(folder, ref).read_bytes() == data
    stats = hot.stats()
    assert (stats.objects, stats.bytes, stats.limit_bytes) == (1, ref.size, 4 * MiB)
    assert (stats.hits, stats.misses, stats.fills, stats.fallthroughs) == (4, 1, 1, 0)
    assert (stats.hot_bytes, stats.cold_bytes) == (2 * ref.size + 12, ref.size)


def test_it_is_a_store_with_the_capabilities(hot):
    for capability in (ReadInto, LocalPath, Offer, Reject):
        assert isinstance(hot, capability)
    assert hot.url == hot.inner.url
    assert "HotStore(" in repr(hot)


def test_what_is_no_object_passes_through(cold, hot, folder):
    hot.put("lake.json", b"{}")
    assert bytes(hot.get("lake.json").buffer()) == b"{}"
    assert bytes(hot.get_range("lake.json", start=0, end=1)) == b"{"
    assert [bytes(piece) for piece in hot.get_ranges("lake.json", starts=[1], lengths=[1])] == [b"}"]
    assert hot.head("lake.json")["size"] == 2
    assert [meta["path"] for chunk in hot.list() for meta in chunk] == ["lake.json"]
    hot.delete("lake.json")
    with pytest.raises(NotFound):
        hot.get("lake.json")
    assert objects(folder) == []
    assert hot.stats().misses == 0


def test_a_get_of_a_hot_object_tells_about_it(cold, hot):
    [(ref, data)] = put_objects(cold, [1000])
    result = hot.get(ref.path)
    assert (result.meta["path"], result.meta["size"], result.range) == (ref.path, 1000, (0, 1000))
    assert bytes(hot.get(ref.path, options={"range": (10, 20)}).buffer()) == data[10:20]  # cold answers


def test_ranges_end_with_the_object(cold, hot):
    [(ref, data)] = put_objects(cold, [1000])
    assert bytes(hot.get_range(ref.path, start=990, end=2000)) == data[990:]
    assert bytes(hot.get_range(ref.path, start=1000, length=5)) == b""
    with pytest.raises(CorruptObject, match=r"has 1000 bytes; \[990, 1001\) was asked for"):
        hot.read_into(ref, start=990, buffer=bytearray(11))
    hot.read_into(ref, start=1000, buffer=bytearray(0))


def test_any_writable_buffer_is_filled(cold, hot):
    [(ref, data)] = put_objects(cold, [1200])
    array = np.empty((10, 30), np.float32)
    hot.read_into(ref, start=0, buffer=array)
    assert array.tobytes() == data


def test_an_empty_object_is_no_burden(cold, hot):
    [(ref, _)] = put_objects(cold, [0])
    assert bytes(hot.get(ref.path).buffer()) == b""
    assert hot.local_path(ref) is None
    hot.offer(ref, cold.inner.root / ref.path)
    assert hot.stats().objects == 0


def test_missing_objects_are_not_found(hot, folder):
    ref = Digest("ab" * 32, ".tar", 100)
    for ask in (lambda: read(hot, ref), lambda: hot.get(ref.path), lambda: hot.local_path(ref)):
        with pytest.raises(NotFound):
            ask()
    assert os.listdir(folder / "partial") == []
    assert hot.stats().bytes == 0


def test_adopted_objects_are_declined(hot, tmp_path):
    ref = Foreign("s3://elsewhere/x.tar", 5)
    with pytest.raises(InvalidArgument, match="adopted object"):
        read(hot, ref)
    assert hot.local_path(ref) is None
    hot.offer(ref, tmp_path)
    hot.reject(ref)


def test_least_recently_read_objects_leave_for_new_ones(cold, hot, folder):
    made = put_objects(cold, [MiB] * 3)
    for ref, _ in made:
        read(hot, ref)
    read(hot, made[0][0])
    [(new, data)] = put_objects(cold, [MiB], seed=9)
    assert read(hot, new) == data
    assert objects(folder) == sorted(f"{ref.hex}.tar" for ref in (made[0][0], made[2][0], new))
    assert hot.stats().evictions == 1
    assert taken(folder) <= 4 * MiB


def test_an_object_larger_than_the_limit_is_read_from_cold(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [5 * MiB])
    for start in (0, 100):
        assert read(hot, ref, start, start + 9) == data[start : start + 9]
    assert bytes(hot.get_range(ref.path, start=3, length=4)) == data[3:7]
    assert bytes(hot.get(ref.path).buffer()) == data
    assert [bytes(piece) for piece in hot.get_ranges(ref.path, starts=[1], lengths=[2])] == [data[1:3]]
    assert hot.local_path(ref) is None
    assert objects(folder) == []
    stats = hot.stats()
    assert (stats.fallthroughs, stats.misses, stats.hits) == (6, 6, 0)
    assert stats.cold_bytes == 9 + 9 + 4 + 5 * MiB + 2


def test_nothing_is_evicted_for_an_object_that_does_not_fit_anyway(cold, hot, folder):
    small, large = put_objects(cold, [MiB, 4 * MiB - 100_000])
    read(hot, small[0])
    assert read(hot, large[0], 0, 10) == large[1][:10]
    assert objects(folder) == [f"{small[0].hex}.tar"]


def test_mapped_files_are_not_evicted(cold, hot, folder):
    made = put_objects(cold, [MiB] * 5)
    paths = [hot.local_path(ref) for ref, _ in made[:3]]
    assert [path.read_bytes() for path in paths] == [data for _, data in made[:3]]
    assert hot.local_path(made[0][0]) == paths[0]
    assert hot.local_path(made[3][0]) is None
    assert read(hot, made[4][0], 0, 5) == made[4][1][:5]
    assert all(path.exists() for path in paths)
    hot.close()
    with Hot(folder, limit="4 MiB").wrap(cold) as again:
        assert read(again, made[4][0]) == made[4][1]
        assert again.stats().evictions == 1


def test_leases_are_few(cold, hot, monkeypatch):
    monkeypatch.setattr("tiering.cache._MAX_LEASES", 3)
    made = put_objects(cold, [10] * 5)
    assert [hot.local_path(ref) is not None for ref, _ in made] == [True] * 3 + [False] * 2
    assert read(hot, made[-1][0]) == made[-1][1]


def test_an_offered_file_needs_no_fetch(cold, hot, tmp_path):
    [(ref, data)] = put_objects(cold, [1000])
    file = tmp_path / "staged"
    file.write_bytes(data)
    hot.offer(ref, file)
    file.write_bytes(b"changed by its owner")
    hot.offer(ref, file)  # there already: not even looked at
    assert read(hot, ref) == data
    assert cold.asked() == []
    assert (hot.stats().hits, hot.stats().corrupt) == (1, 0)


def test_an_offer_is_declined_where_it_does_not_fit_or_is_something_else(cold, hot, folder, tmp_path):
    made = put_objects(cold, [2 * MiB, 2 * MiB, 1000])
    read(hot, made[0][0])
    file = tmp_path / "staged"
    file.write_bytes(made[1][1])
    hot.offer(made[1][0], file)
    hot.offer(made[2][0], file)
    file.write_bytes(bytes(1000))
    hot.offer(made[2][0], file)
    assert objects(folder) == [f"{made[0][0].hex}.tar"]
    assert hot.stats().corrupt == 2
    assert hot.stats().bytes == 2 * MiB
    hot.offer(made[2][0], tmp_path / "no such file")
    assert read(hot, made[2][0]) == made[2][1]


def test_bytes_that_are_wrong_once_are_fetched_again(cold, folder):
    [(ref, data)] = put_objects(cold, [1000])
    with Hot(folder, limit="4 MiB").wrap(Wrong(cold, 1)) as hot:
        assert read(hot, ref) == data
        assert (hot.stats().corrupt, hot.stats().fills, hot.stats().cold_bytes) == (1, 1, 2000)


def test_a_flipped_byte_in_cold_is_an_error_that_names_it_and_is_never_kept(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [1000])
    flip(cold.inner.root / ref.path, 500)
    for ask in (lambda: read(hot, ref, 0, 10), lambda: hot.get(ref.path), lambda: hot.local_path(ref)):
        with pytest.raises(CorruptObject) as caught:
            ask()
        assert ref.path in str(caught.value)
        assert cold.url in str(caught.value)
        assert str(caught.value).endswith(REMEDY)
    assert objects(folder) == os.listdir(folder / "partial") == []
    assert len(cold.asked()) == 2  # and not two more for every read
    assert (hot.stats().corrupt, hot.stats().bytes) == (2, 0)
    flip(cold.inner.root / ref.path, 500)
    hot.close()
    with Hot(folder, limit="4 MiB").wrap(cold) as again:
        assert read(again, ref) == data


def test_a_flipped_byte_in_hot_heals(cold, hot, folder, caplog):
    [(ref, data)] = put_objects(cold, [1000])
    read(hot, ref)
    flip(hot_file(folder, ref), 500)
    assert read(hot, ref) != data  # nobody looks at verified bytes again, but the checksums of what is decoded
    with caplog.at_level(logging.WARNING):
        hot.reject(ref)
    assert "is damaged" in caplog.text
    assert read(hot, ref) == data
    assert len(cold.asked()) == 2
    assert hot.stats().corrupt == 1


def test_a_rejected_copy_that_is_sound_stays(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [1000])
    hot.reject(ref)
    read(hot, ref)
    hot.reject(ref)
    assert read(hot, ref) == data
    assert len(cold.asked()) == 1
    assert hot.stats().corrupt == 0


def test_a_bad_copy_in_use_is_not_read_until_it_can_be_dropped(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [1000])
    path = hot.local_path(ref)
    flip(path)
    hot.reject(ref)
    assert path.exists()
    assert hot.local_path(ref) is None
    assert read(hot, ref) == data
    assert hot.stats().fallthroughs == 1
    hot.close()
    with Hot(folder, limit="4 MiB").wrap(cold) as again:
        again.reject(ref)
        assert read(again, ref) == data
        assert again.stats().fills == 1


def test_a_bad_copy_is_dropped_once_the_other_process_lets_go(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [1000])
    other = HotStore(cold, folder, 4 * MiB)
    flip(other.local_path(ref))
    hot.reject(ref)
    for _ in range(3):
        assert read(hot, ref) == data
    time_passes(hot)
    assert read(hot, ref) == data
    assert hot.stats().fallthroughs == 4
    other.close()
    time_passes(hot)
    assert read(hot, ref) == data
    assert (hot.stats().fallthroughs, hot.stats().fills) == (4, 1)


def test_a_copy_that_cannot_be_read_is_read_from_cold(cold, hot, folder, caplog):
    [(ref, data)] = put_objects(cold, [4096])
    hot_file(folder, ref).mkdir()  # reading it fails, as on a bad disk
    if hot_file(folder, ref).stat().st_size != ref.size:
        pytest.skip("folders are of another size on this file system")
    assert read(hot, ref) == data
    assert "cannot be read" in caplog.text
    hot.reject(ref)
    assert read(hot, ref) == data
    assert (hot.stats().fallthroughs, hot.stats().hits) == (2, 0)


def test_a_directory_out_of_order_falls_through(cold, hot, folder):
    made = put_objects(cold, [1000] * 2)
    (folder / "objects").rmdir()
    (folder / "objects").write_text("in the way")
    for ref, data in made:
        assert read(hot, ref) == data
        assert bytes(hot.get(ref.path).buffer()) == data
        hot.reject(ref)
        hot.delete(ref.path)
    assert hot.stats().fallthroughs == 4


def test_a_file_of_the_wrong_size_is_replaced(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [1000])
    read(hot, ref)
    os.truncate(hot_file(folder, ref), 0)
    assert read(hot, ref) == data
    os.truncate(hot_file(folder, ref), 2000)
    with HotStore(cold, folder, 4 * MiB) as other:
        assert read(other, ref) == data
    assert hot_file(folder, ref).read_bytes() == data


def test_a_cut_hot_file_is_replaced_for_who_has_it_open(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [1000])
    read(hot, ref)
    os.truncate(hot_file(folder, ref), 10)
    assert read(hot, ref) == data
    assert hot_file(folder, ref).read_bytes() == data


def test_deleting_drops_the_hot_copy(cold, hot, folder):
    made = put_objects(cold, [1000] * 2)
    for ref, _ in made:
        read(hot, ref)
    hot.delete([ref.path for ref, _ in made] + ["lake.json"])
    assert objects(folder) == []
    assert hot.stats().bytes == 0
    with pytest.raises(NotFound):
        read(hot, made[0][0])


def test_errors_of_cold_are_the_callers(cold, folder):
    class Down(WrapperStore):
        def get_range(self, path, *, start, end=None, length=None):
            raise StoreUnavailable("no answer")

    [(ref, _)] = put_objects(cold, [1000])
    with Hot(folder, limit="4 MiB").wrap(Down(cold)) as hot:
        with pytest.raises(StoreUnavailable, match="no answer"):
            read(hot, ref)
        assert (hot.stats().bytes, hot.stats().fallthroughs) == (0, 0)
    assert os.listdir(folder / "partial") == []


def test_a_short_answer_of_cold_is_told(cold, folder):
    class Short(WrapperStore):
        def get_range(self, path, *, start, end=None, length=None):
            return b"x"

    [(ref, _)] = put_objects(cold, [5 * MiB])
    with Hot(folder, limit="4 MiB").wrap(Short(cold)) as hot, pytest.raises(CorruptObject, match="ends at byte 4; it should have 5242880"):
        hot.read_into(ref, start=3, buffer=bytearray(10))


def test_the_limit_is_the_directorys(cold, folder):
    made = put_objects(cold, [MiB] * 3)
    with HotStore(cold, folder, 4 * MiB) as hot:
        for ref, _ in made:
            read(hot, ref)
        with HotStore(cold, folder, 2 * MiB) as smaller:
            assert smaller.stats().objects == 1
            assert taken(folder) <= 2 * MiB
            read(hot, made[0][0])  # the older store follows
            read(hot, made[1][0])
            assert hot.stats().limit_bytes == 2 * MiB
            assert taken(folder) <= 2 * MiB
    with HotStore(cold, folder, 8 * MiB) as larger:
        assert larger.stats().limit_bytes == 8 * MiB


def test_a_limit_too_small_to_work_with(cold, folder):
    with pytest.raises(InvalidArgument, match="it needs 524288 or more"):
        HotStore(cold, folder, MIN_LIMIT_BYTES - 1)
    assert not folder.exists()


def test_a_newer_directory_is_refused(cold, folder):
    folder.mkdir()
    (folder / "dataplane-hot.json").write_text('{"format": 99}')
    with pytest.raises(FormatTooNew, match="format 99"):
        HotStore(cold, folder, MiB)


def test_a_lakes_own_folder_is_refused(cold):
    put_objects(cold, [10])
    with pytest.raises(InvalidArgument, match="holds objects, which no hot tier made"):
        HotStore(cold, cold.inner.root, MiB)


def test_foreign_files_are_never_touched_or_counted(cold, folder):
    folder.mkdir()
    (folder / "theirs.bin").write_bytes(bytes(MiB))
    with HotStore(cold, folder, 2 * MiB) as hot:
        (folder / "objects" / "README").write_bytes(bytes(MiB))
        (folder / "partial" / "x.part").write_bytes(bytes(MiB))
        for ref, data in put_objects(cold, [MiB] * 3):
            assert read(hot, ref) == data
        assert hot.stats().objects == 1
    HotStore(cold, folder, MiB).close()
    assert (folder / "theirs.bin").stat().st_size == MiB
    assert (folder / "objects" / "README").stat().st_size == MiB
    assert (folder / "partial" / "x.part").stat().st_size == MiB


def test_two_stores_on_one_directory_share_it(cold, hot, folder):
    [(ref, data)] = put_objects(cold, [1000])
    with HotStore(cold, folder, 4 * MiB) as other:
        assert read(hot, ref) == data
        assert read(other, ref) == data
        assert other.stats().hits == 1
    assert len(cold.asked()) == 1


def test_an_eviction_by_another_store_is_noticed(cold, hot, folder):
    made = put_objects(cold, [MiB] * 3)
    for ref, _ in made:
        read(hot, ref)
    with HotStore(cold, folder, MiB) as other:  # evicts them all; `hot` has them open
        assert other.stats().objects == 0
        assert taken(folder) < MiB
        assert read(hot, made[0][0], 0, 5) == made[0][1][:5]
    assert hot.stats().fallthroughs == 1


def test_threads_share_one_fetch(cold, hot):
    [(ref, data)] = put_objects(cold, [2 * MiB])
    ready, bad = threading.Barrier(8), []

    def job(n):
        ready.wait()
        for start in range(n, ref.size - 1000, 100_000):
            bad.extend([start] if read(hot, ref, start, start + 1000) != data[start : start + 1000] else [])

    threads = [threading.Thread(target=job, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bad == []
    assert cold.asked() == [(ref.path, 0)]
    assert hot.stats().fills == 1


def test_it_pickles_as_its_arguments(cold, hot):
    [(ref, data)] = put_objects(cold, [1000])
    read(hot, ref)
    with pickle.loads(pickle.dumps(hot)) as other:
        assert (other.directory, other.limit_bytes) == (hot.directory, hot.limit_bytes)
        assert read(other, ref) == data
        assert other.stats().hits == 1


def test_a_closed_store_says_so(cold, folder):
    [(ref, _)] = put_objects(cold, [1000])
    hot = HotStore(cold, folder, MiB)
    read(hot, ref)
    hot.close()
    hot.close()
    with pytest.raises(InvalidArgument, match="was closed"):
        read(hot, ref)


def test_a_store_that_is_dropped_is_closed(cold, folder):
    [(ref, data)] = put_objects(cold, [1000])
    hot = HotStore(cold, folder, MiB)
    assert read(hot, ref) == read(hot, ref) == data
    del hot
    gc.collect()
    assert files_open_below(folder) == []
    assert totals(folder).hits == 1


def test_a_store_collected_in_the_middle_of_a_transaction_does_not_hold_it_up(cold, folder):
    [(ref, data)] = put_objects(cold, [1000])
    forgotten, kept = HotStore(cold, folder, MiB), HotStore(cold, folder, MiB)
    assert read(forgotten, ref) == read(kept, ref) == data
    cycle = [forgotten]
    cycle.append(cycle)
    del forgotten, cycle
    ended = threading.Event()

    def work():
        with kept._cache._directory._index.transaction():
            gc.collect()
        ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ended.wait(20), "a wait for one's own transaction lasts until SQLite gives up, after a minute"
    thread.join()
    wait_for(lambda: "dataplane-hot-close" not in {other.name for other in threading.enumerate()})
    kept.close()
    assert files_open_below(folder) == []


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to that")


def files_open_below(folder):
    names = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return [os.readlink(name) for name in names if os.path.lexists(name) and os.readlink(name).startswith(str(folder))]


def test_a_read_that_is_under_way_when_its_store_is_closed_leaves_nothing_open(cold, folder):
    asked, go = threading.Event(), threading.Event()

    class Slow(WrapperStore):
        def get_range(self, path, *, start, end=None, length=None):
            asked.set()
            go.wait(10)
            return self.inner.get_range(path, start=start, end=end, length=length)

    [(ref, data)] = put_objects(cold, [1000])
    hot, got = HotStore(Slow(cold), folder, MiB), []
    reader = threading.Thread(target=lambda: got.append(read(hot, ref)))
    reader.start()
    assert asked.wait(10)
    hot.close()
    go.set()
    reader.join(10)
    assert got == [data]
    assert files_open_below(folder) == []
    assert totals(folder).fills == 0  # what came in after the last flush is not counted, but it is there
    assert objects(folder) == [f"{ref.hex}.tar"]


def test_nothing_is_leased_after_the_end(cold, hot, folder):
    [(ref, _)] = put_objects(cold, [1000])
    cache = hot._live()
    hot.close()
    assert cache.lease(ref) is None
    assert files_open_below(folder) == []


def test_last_reads_are_flushed_now_and_then(cold, hot, folder):
    [(ref, _)] = put_objects(cold, [1000])
    read(hot, ref)
    hot._live()._flush_at = 0
    read(hot, ref)
    assert (totals(folder).hits, totals(folder).misses) == (1, 1)


def test_a_marker_that_cannot_be_read_falls_through(cold, folder, caplog):
    [(ref, data)] = put_objects(cold, [1000])
    folder.mkdir()
    (folder / "dataplane-hot.json").write_text("garbage")
    with caplog.at_level(logging.DEBUG), HotStore(cold, folder, MiB) as hot:
        for _ in range(3):
            assert read(hot, ref) == data
        hot.reject(ref)
        hot.delete("objects/nothing")
        assert (hot.stats().fallthroughs, hot.stats().limit_bytes) == (3, MiB)
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert (folder / "dataplane-hot.json").read_text() == "garbage"


def test_a_damaged_index_is_made_anew_from_the_files(cold, folder):
    made = put_objects(cold, [1000] * 3)
    with HotStore(cold, folder, MiB) as hot:
        for ref, _ in made:
            read(hot, ref)
    (folder / "index.sqlite").write_bytes(os.urandom(20_000))
    with HotStore(cold, folder, MiB) as hot:
        assert [read(hot, ref) for ref, _ in made] == [data for _, data in made]
        assert (hot.stats().hits, hot.stats().misses, hot.stats().objects) == (3, 0, 3)
    assert len(cold.asked()) == 3
