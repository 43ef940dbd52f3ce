"""Removing is a commit: which versions go, which stay, and what is told of those that are gone."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import Lake
from dataplane.errors import CommitConflict, CorruptObject, InvalidArgument, NotFound
from dataplane.intervals import Numbers
from dataplane.log import Log
from dataplane.testing import RecordingStore
from dataplane.upkeep import expire, rm
from dataplane.upkeep.commands import parse_duration
from dataplane.upkeep.expire import State, plan_expire
from tests import make

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["folder", "memory", "s3"])
def lake(request, tmp_path):
    urls = {
        "folder": lambda: str(tmp_path / "lake"),
        "memory": lambda: f"memory://expire-{uuid.uuid4().hex}",
        "s3": lambda: request.getfixturevalue("s3").url(),
    }
    return Lake.init(urls[request.param]())


@pytest.fixture
def local(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def versions(lake, count, name="numbers"):
    return [make.dataset(lake, name, train=(number,)) for number in range(1, count + 1)]


# ------------------------------------------------------------------ sets of numbers

numbers = st.sets(st.integers(1, 40))


@given(numbers, numbers, st.integers(0, 45))
def test_sets_of_numbers_behave_as_sets(one, other, last):
    a, b = Numbers.of(one), Numbers.of(other)
    assert set(a) == one
    assert len(a) == len(one)
    assert bool(a) == bool(one)
    assert set(a | b) == one | other
    assert set(a.minus(b)) == one - other
    assert set(a.missing(last)) == set(range(1, last + 1)) - one
    assert [n in a for n in range(1, 41)] == [n in one for n in range(1, 41)]
    assert Numbers.from_json(a.to_json()) == a
    assert set(Numbers.upto(last)) == set(range(1, last + 1))


@pytest.mark.parametrize("wrong", [5, [[2, 1]], [[0, 1]], [[1, 2], [2, 3]], [[3, 4], [1, 1]], [[1]], "ab", [["a", 2]]])
def test_what_is_no_set_of_numbers(wrong):
    with pytest.raises(CorruptObject):
        Numbers.from_json(wrong)


# ------------------------------------------------------------------ the plan


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=12),
    st.sets(st.integers(1, 12)),
    st.none() | st.integers(1, 12),
    st.none() | st.integers(0, 100),
)
def test_the_plan(ages, used, keep_last, older_than):
    ages = sorted(ages, reverse=True)
    states = [State((number,), NOW - timedelta(days=age)) for number, age in enumerate(ages, 1)]
    limit = None if older_than is None else timedelta(days=older_than)
    gone, kept = plan_expire(states, dict.fromkeys(used, "tag x"), keep_last=keep_last, older_than=limit, now=NOW)
    last = len(ages)
    assert last not in gone
    assert set(gone) & used == set()
    for number, age in enumerate(ages, 1):
        may = number <= last - (keep_last or 1) and (older_than is None or age >= older_than)
        assert (number in gone) == (may and number not in used)
        assert (number in {each.version for each in kept}) == (may and number in used)


def test_the_plan_counts_states_not_commits():
    states = [State((1, 2), NOW), State((3,), NOW), State((4, 5, 6), NOW)]
    assert plan_expire(states, {}, keep_last=2, older_than=None, now=NOW) == ((1, 2), ())


# ------------------------------------------------------------------ expire


def test_old_versions_go(lake):
    made = versions(lake, 5)
    result = expire(lake, "numbers", keep_last=2)
    assert (result.expired, result.kept, result.version) == ((1, 2, 3), (), 6)
    assert lake.catalog.numbers("numbers") == [4, 5, 6]
    newest = lake.catalog.version("numbers")
    assert (newest.number, newest.parts, newest.splits, newest.schema) == (6, made[-1].parts, made[-1].splits, made[-1].schema)
    assert newest.lineage["parameters"]["keep_last"] == 2
    assert newest.lineage["counts"] == {"samples": 5, "expired": 3}
    with pytest.raises(NotFound, match=r"numbers@2 was expired by numbers@6 \(expire\) at 20.* UTC; numbers has 4 to 6"):
        lake.catalog.version("numbers@2")
    assert lake.catalog.version("numbers@4") == made[3]
    assert [(str(version), there) for version, there in lake.catalog.history("numbers")] == [
        (f"numbers@{number}", number > 3) for number in range(6, 0, -1)
    ]


def test_twice_is_once(lake):
    versions(lake, 3)
    assert expire(lake, "numbers", keep_last=1).version == 4
    again = expire(lake, "numbers", keep_last=1)
    assert (again.version, again.expired) == (None, ())
    assert lake.catalog.number("numbers") == 4


def test_every_later_commit_repeats_what_is_gone(local):
    versions(local, 3)
    expire(local, "numbers", keep_last=1)
    make.dataset(local, "numbers", train=(9,))
    assert local.catalog.log("numbers").last().body["expired"] == [[1, 2]]
    expire(local, "numbers", keep_last=1)
    assert local.catalog.log("numbers").last().body["expired"] == [[1, 4]]
    for number, by in ((1, 4), (2, 4), (3, 6), (4, 6)):
        with pytest.raises(NotFound, match=f"numbers@{number} was expired by numbers@{by} "):
            local.catalog.version(f"numbers@{number}")


def test_another_commit_comes_first(local):
    versions(local, 3)

    class Late(RecordingStore):
        done = False

        def put(self, path, file, **options):
            if path.startswith("datasets/") and not self.done:
                self.done = True
                make.dataset(local, "numbers", train=(7,))
            return super().put(path, file, **options)

    result = expire(Lake(Late(local.store)), "numbers", keep_last=1)
    assert (result.expired, result.version) == ((1, 2, 3), 5)
    assert local.catalog.version("numbers").samples == 7


def test_tags_runs_and_models_keep_what_they_name(local):
    made = versions(local, 5)
    local.catalog.tag("numbers", "prod", 1)
    body = {"dataset": {"name": "numbers", "version": 2, "id": made[1].id}}
    local.log("runs", "first").append(lambda _: body)
    local.log("models", "digits").append(lambda _: {**body, "loader": {"of": [{"name": "numbers", "version": 3, "id": made[2].id}]}})
    result = expire(local, "numbers", keep_last=1, dry_run=True)
    assert (result.expired, result.version) == ((4,), None)
    assert [(kept.version, kept.reason) for kept in result.kept] == [
        (1, "tag prod"),
        (2, "model digits, run first"),
        (3, "model digits"),
    ]
    assert expire(local, "numbers", keep_last=1, keep_tagged=False, dry_run=True).expired == (1, 4)
    assert expire(local, "numbers", keep_last=1, keep_tagged=False, keep_used=False).expired == (1, 2, 3, 4)
    with pytest.raises(NotFound, match="numbers@1 was expired"):
        local.catalog.version("numbers@prod")


def test_by_age(local):
    versions(local, 3)
    assert expire(local, "numbers", older_than=timedelta(days=1)).expired == ()
    later = datetime.now(UTC) + timedelta(days=2)
    assert expire(local, "numbers", older_than=timedelta(days=1), keep_last=2, now=later, dry_run=True).expired == (1,)
    assert expire(local, "numbers", older_than=timedelta(days=1), now=later).expired == (1, 2)


@pytest.mark.parametrize(
    "wrong", [{}, {"keep_last": 0}, {"keep_last": -1}, {"older_than": timedelta(days=-1)}, {"keep_tagged": False, "keep_used": False}]
)
def test_wrong_arguments(local, wrong):
    versions(local, 2)
    with pytest.raises(InvalidArgument):
        expire(local, "numbers", **wrong)
    assert local.catalog.numbers("numbers") == [1, 2]


def test_no_such_dataset(local):
    for call in (lambda: expire(local, "nothing", keep_last=1), lambda: rm(local, "nothing"), lambda: rm(local, "nothing@1")):
        with pytest.raises(NotFound, match="no dataset 'nothing'"):
            call()
    assert local.datasets() == []


# ------------------------------------------------------------------ rm


def test_a_removed_dataset_is_gone_and_can_come_back(lake):
    versions(lake, 2)
    make.dataset(lake, "others")
    result = rm(lake, "numbers")
    assert (result.removed, result.expired, result.version) == (True, (1, 2), 3)
    assert lake.datasets() == ["others"]
    assert lake.catalog.newest("numbers") is None
    for spec in ("numbers", "numbers@1", "numbers@3"):
        with pytest.raises(NotFound, match=r"the dataset 'numbers' of .* was removed at 20.* UTC; there are: others"):
            lake.catalog.number(spec)
    with pytest.raises(NotFound):
        rm(lake, "numbers")
    back = make.dataset(lake, "numbers", train=(6,))
    assert (back.number, back.lineage["parents"], back.samples) == (4, [], 6)
    assert lake.catalog.numbers("numbers") == [4]
    assert lake.datasets() == ["numbers", "others"]
    with pytest.raises(NotFound, match=r"numbers@1 was expired by numbers@3 \(rm\)"):
        lake.catalog.version("numbers@1")
    with pytest.raises(NotFound):
        lake.catalog.version("numbers@3")


def test_commits_of_others_see_no_removed_version(local):
    versions(local, 1)
    rm(local, "numbers")
    seen = []
    local.catalog.commit("numbers", seen.append)
    assert seen == [None]


def test_removing_twice_at_once(local):
    versions(local, 1)

    class Late(RecordingStore):
        done = False

        def put(self, path, file, **options):
            if path.startswith("datasets/") and not self.done:
                self.done = True
                rm(local, "numbers")
            return super().put(path, file, **options)

    with pytest.raises(CommitConflict, match="removed meanwhile"):
        rm(Lake(Late(local.store)), "numbers")


def test_one_version(local):
    versions(local, 4)
    local.catalog.tag("numbers", "prod", 3)
    assert rm(local, "numbers@2", dry_run=True).expired == (2,)
    assert rm(local, "numbers@2").version == 5
    assert local.catalog.numbers("numbers") == [1, 3, 4, 5]
    with pytest.raises(InvalidArgument, match="the newest version"):
        rm(local, "numbers@5")
    with pytest.raises(InvalidArgument, match="numbers@3 is named by tag prod; move the tag first"):
        rm(local, "numbers@3")
    with pytest.raises(InvalidArgument, match="numbers@prod is a tag"):
        rm(local, "numbers@prod")
    with pytest.raises(NotFound):
        rm(local, "numbers@2")


# ------------------------------------------------------------------ what it costs, and damage


def test_opening_the_newest_version_costs_one_read(local):
    versions(local, 3)
    expire(local, "numbers", keep_last=2)
    store = RecordingStore(local.store)
    lake = Lake(store)
    store.clear()
    lake.catalog.version("numbers")
    assert store.paths("get") == [local.catalog.log("numbers").path(4)]
    store.clear()
    lake.catalog.version("numbers@2")
    assert store.paths("get") == [local.catalog.log("numbers").path(number) for number in (4, 2)]


def test_a_damaged_newest_commit_hides_neither_versions_nor_what_is_gone(local):
    versions(local, 3)
    expire(local, "numbers", keep_last=1)
    make.dataset(local, "numbers")
    local.store.put(local.catalog.log("numbers").path(5), b"damaged")
    assert local.catalog.version("numbers@3").number == 3
    assert local.datasets() == ["numbers"]
    with pytest.raises(NotFound):
        local.catalog.version("numbers@1")
    with pytest.raises(CorruptObject):
        local.catalog.version("numbers")


def test_who_expired_it_cannot_be_read(local):
    versions(local, 3)
    expire(local, "numbers", keep_last=1)
    make.dataset(local, "numbers")
    make.dataset(local, "numbers")
    local.store.put(Log(local.store, "datasets/numbers/log").path(4), b"damaged")
    with pytest.raises(NotFound, match="numbers@1 was expired"):
        local.catalog.version("numbers@1")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 30 * 86400), ("1.5d", 129600), ("4w", 28 * 86400)]
)
def test_lengths_of_time(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1 month"])
def test_what_is_no_length_of_time(text):
    with pytest.raises(InvalidArgument, match="write a number and a unit"):
        parse_duration(text)
