"""Mixtures end to end: shares, epochs, resuming, and what may change at a resume."""

import json
import os
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dataplane.errors import BadSamples, DataplaneError, InvalidArgument, StateMismatch
from dataplane.testing.samples import write_dataset
from dataplane.upkeep.expire import expire
from dataplane.versions.append import append
from loaders import Bytes, Int64, Loader, Mixture
from loaders.blended import MixtureState
from loaders.mixed import Mixed
from loaders.state import State
from loaders.tier import Tier
from tests.mixtures import BAD, PHOTOS, TEXTS, TRANSFORM, WEIGHTS, delivered, loader_of, make_lake, mixture_of, photos, state_of, texts
from tests.pictures import SCHEMA
from tiering import Hot

PICTURES = {name: ops for name, ops in TRANSFORM.items() if name != "len"}
SIZES = {"photos": sum(PHOTOS), "drawings": 24, "text": sum(TEXTS)}
N = sum(SIZES.values())

pytestmark = pytest.mark.filterwarnings("ignore:lanes")


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return make_lake(str(tmp_path_factory.mktemp("mixture") / "lake"))


@pytest.fixture
def own(tmp_path):
    """A lake to change, without a bad sample."""
    return make_lake(str(tmp_path / "lake"), bad=False)


def run(loader, epochs=1):
    """What some epochs deliver."""
    found = {}
    for _ in range(epochs):
        found |= delivered(loader, loader.components)
    return found


@pytest.fixture(scope="module")
def whole(lake):
    """Two uninterrupted epochs of one rank."""
    return run(loader_of(mixture_of(lake)), 2)


def keys_of(found, name):
    """The keys of a component in the order of delivery."""
    return [values[2] for _, values in sorted(found.items()) if values[0] == name]


def check_epochs(found, lake, *versions, running=None):
    """That every component gave each sample of its epochs once, and epochs in turn: but for the last few, they are whole.

    `versions`: of each component, the keys that its epochs have. `running`: the first epoch that need not be whole, by component.
    """
    for name, of_epoch in versions:
        given = Counter((values[1], values[2]) for values in found.values() if values[0] == name)
        assert set(given.values()) == {1}, f"{name}: a sample came twice in an epoch"
        epochs = max(epoch for epoch, _ in given) + 1
        whole = 0
        for epoch in range(epochs):
            keys = {key for e, key in given if e == epoch}
            due = set(of_epoch(epoch))
            assert keys <= due
            whole += keys == due
            last = running[name] if running else epochs - 2
            assert keys == due or epoch >= last, f"{name}: epoch {epoch} of {epochs} lacks {sorted(due - keys)}"
        assert whole or epochs <= 2


def keys_in(lake, spec):
    return [sample.key for sample in lake.dataset(spec)["train"]]


def test_components_come_in_their_shares_and_each_of_their_epochs_once(own):
    found = run(loader_of(mixture_of(own, samples=60)), 5)
    assert len(found) == 300
    shares = Counter(values[0] for values in found.values())
    for name, weight in WEIGHTS.items():
        assert abs(shares[name] - 50 * weight) < 8  # less than two a lane
    check_epochs(found, own, *((name, lambda _, name=name: keys_in(own, name)) for name in WEIGHTS))


def test_fields_that_a_component_lacks_are_zeros(whole):
    for name, _, _, pixels, label, length in whole.values():
        assert (name == "text") == (not np.frombuffer(pixels, np.float32).any())
        assert not label or name != "text"
        assert not length or name == "text"
    assert {length for *_, length in whole.values()} == set(range(sum(TEXTS)))


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 5}, {"batch_size": 7}, {"batch_size": 100}])
def test_threads_and_batch_size_change_nothing(lake, whole, options):
    assert run(loader_of(mixture_of(lake), **options), 2) == whole


def test_a_batch_says_what_its_samples_are_of(lake):
    batch = next(iter(loader_of(mixture_of(lake), batch_size=30)))
    assert batch.components.dtype == np.int16
    assert batch.components.shape == (30,)
    assert set(batch.components.tolist()) == {0, 1, 2}
    alone = next(iter(Loader(lake.dataset("text")["train"], batch_size=3, transform={"len": Int64()})))
    assert alone.components.tolist() == [0, 0, 0]


def test_bad_samples_get_substitutes_of_their_own_component(lake, whole):
    loader = loader_of(mixture_of(lake))
    assert run(loader, 2) == whole
    bad = loader.report()["samples"]
    assert {(each["component"], each["key"]) for each in bad} == {("photos", BAD)}
    for each in bad:
        name, _, key, *_ = whole[each["epoch"], each["position"]]
        assert name == "photos"
        assert key == each["substitute"]
    skipping = loader_of(mixture_of(lake), on_error="skip")
    places = {(each["epoch"], each["position"]) for each in bad}
    assert run(skipping, 2) == {place: values for place, values in whole.items() if place not in places}


@pytest.mark.parametrize("tail", ["drop", "pad", "short"])
def test_what_a_tail_drops_comes_in_the_next_epoch(lake, tail):
    """All tails go along the same endless sequence; a dropped tail delivers later what the others have delivered already."""
    loader = loader_of(mixture_of(lake), tail=tail, batch_size=7)
    epochs = [run(loader) for _ in range(3)]
    row = [values[:3] for epoch in epochs for _, values in sorted(epoch.items())]
    assert [len(epoch) for epoch in epochs] == [N // 7 * 7 if tail == "drop" else N] * 3
    straight = run(loader_of(mixture_of(lake, samples=3 * N)))
    assert row == [values[:3] for _, values in sorted(straight.items())][: len(row)]


def test_resume_at_every_step_by_other_worlds_is_exact(lake, whole):
    first = {place: values for place, values in whole.items() if place[0] == 0}
    worlds = [1, 3, 2, 4]
    for stop_after in range(1, 8):
        world, other = worlds[stop_after % 4], worlds[(stop_after + 1) % 4]
        ranks = [loader_of(mixture_of(lake), rank=rank, world=world, batch_size=2) for rank in range(world)]
        iterators = [iter(rank) for rank in ranks]
        got = [batch for _ in range(stop_after) for batch in (next(iterator, None) for iterator in iterators) if batch is not None]
        state = state_of(ranks)
        if state["epoch"] == 0:
            resumed = [loader_of(mixture_of(lake), rank=rank, world=other, batch_size=5, threads=1, seed=99) for rank in range(other)]
            for rank in resumed:
                rank.load_state_dict(state)
            got += [batch for rank in resumed for batch in rank]
        assert delivered(got, ranks[0].components) == first


def test_a_state_is_small_json_and_survives_it(lake):
    loader = loader_of(mixture_of(lake))
    next(iter(loader))
    state = loader.state_dict()
    assert state["format"] == 2
    assert len(json.dumps(state)) < 900
    other = loader_of(mixture_of(lake))
    other.load_state_dict(json.loads(json.dumps(state, sort_keys=True)))
    assert other.state_dict() == state
    assert other.position == 4


def test_restart_begins_anew(lake, whole):
    loader = loader_of(mixture_of(lake))
    next(iter(loader))
    loader.restart()
    assert run(loader, 2) == whole
    loader.restart(epoch=1)
    assert run(loader) == {place: values for place, values in whole.items() if place[0] == 1}


def test_floats_and_sizes_are_weights_too(lake):
    as_integers = run(loader_of(mixture_of(lake)))
    assert run(loader_of(mixture_of(lake, weights={"photos": 0.75, "drawings": 0.5, "text": 0.25}))) == as_integers
    by_size = Counter(values[0] for values in run(loader_of(mixture_of(lake, weights=None))).values())
    assert all(abs(by_size[name] - size) < 8 for name, size in SIZES.items())


def test_stored_order_is_kept_without_shuffling(lake):
    found = run(loader_of(mixture_of(lake), shuffle=False, lanes=None, on_error="skip"), 2)
    for name in ("drawings", "text"):
        stored = [sample.key for sample in lake.dataset(name)["train"]]
        keys = keys_of(found, name)
        assert keys == (stored * 9)[: len(keys)]


# ---------------------------------------------------------------------- what may change


def test_weights_may_change_at_a_resume_and_in_the_middle(own):
    """Nothing is lost or repeated: each component goes on where it stood, with the same pixels."""
    steady = run(loader_of(mixture_of(own, samples=400)))
    loader = loader_of(mixture_of(own, samples=400))
    batches = first_of(loader, 5)
    loader.set_weights({"photos": 0, "drawings": 1, "text": 5})
    assert len(loader.state_dict()["segments"]) == 1
    batches += first_of(loader, 5)
    assert loader.state_dict()["segments"][1] == {"start": 20, "weights": [0, 1, 5]}
    resumed = loader_of(mixture_of(own, samples=400, weights={"photos": 9, "drawings": 1, "text": 1}))
    resumed.load_state_dict(state_of([loader]))
    assert resumed.state_dict()["segments"][2] == {"start": 40, "weights": [9, 1, 1]}
    found = delivered([*batches, *resumed], resumed.components)
    assert len(found) == 400
    assert Counter(values[0] for (_, at), values in found.items() if 20 <= at < 40) == {"drawings": 3, "text": 17}
    check_epochs(found, own, *((name, lambda _, name=name: keys_in(own, name)) for name in WEIGHTS))
    by_sample = {values[:3]: values for values in steady.values()}
    known = [values for values in found.values() if values[:3] in by_sample]
    assert len(known) > 250
    assert all(by_sample[values[:3]] == values for values in known)


def first_of(loader, count):
    return [batch for _, batch in zip(range(count), loader, strict=False)]


def swapped(lake, change, *, at=9, samples=300, name="photos"):
    """A run whose dataset `name` is changed behind `at` batches: the batches before and behind, and the loader that went on."""
    loader = loader_of(mixture_of(lake, samples=samples))
    iterator = iter(loader)
    batches = [next(iterator) for _ in range(at)]
    state = state_of([loader])
    change()
    resumed = loader_of(mixture_of(lake, samples=samples))
    resumed.load_state_dict(state)
    return batches, resumed


def test_a_newer_version_takes_over_at_the_next_epoch(own):
    write_dataset(own, "more", photos(100, (6, 7)), schema=SCHEMA)
    before, resumed = swapped(own, lambda: append(own, "photos", "more"))
    versions = resumed.state_dict()["components"][0]["versions"]
    assert [(each["version"], each["samples"]) for each in versions] == [(1, 27), (2, 40)]
    first = versions[1]["first"]
    found = delivered([*before, *resumed], resumed.components)
    assert first == 1
    of_epoch = lambda epoch: keys_in(own, "photos@1" if epoch < first else "photos@2")  # noqa: E731
    check_epochs(found, own, ("photos", of_epoch), ("drawings", lambda _: keys_in(own, "drawings")))


def test_an_interrupted_swap_is_the_swap(own):
    """The old version is opened by each loader that resumes while its last epoch is under way."""
    write_dataset(own, "more", photos(100, (6, 7)), schema=SCHEMA)
    before, resumed = swapped(own, lambda: append(own, "photos", "more"), at=2, samples=120)
    state = resumed.state_dict()
    whole = delivered([*before, *resumed], resumed.components)
    pieces = delivered(before, resumed.components)
    for _ in range(30):
        again = loader_of(mixture_of(own, samples=120), batch_size=5, threads=0)
        again.load_state_dict(state)
        if again.epoch:
            break
        pieces |= delivered([next(iter(again))], again.components)
        state = state_of([again])
    assert pieces == whole


def test_a_second_newer_version_replaces_one_that_waits(own):
    write_dataset(own, "more", photos(100, (6, 7)), schema=SCHEMA)
    write_dataset(own, "most", photos(200, (5,)), schema=SCHEMA)
    before, resumed = swapped(own, lambda: append(own, "photos", "more"))
    before += first_of(resumed, 2)
    state = state_of([resumed])
    append(own, "photos", "most")
    third = loader_of(mixture_of(own, samples=300))
    third.load_state_dict(state)
    versions = third.state_dict()["components"][0]["versions"]
    assert [each["version"] for each in versions] == [1, 3]
    assert versions[1]["first"] == state["components"][0]["versions"][1]["first"] == 1
    third.load_state_dict(third.state_dict())  # again, which changes nothing
    found = delivered([*before, *third], third.components)
    check_epochs(found, own, ("photos", lambda epoch: keys_in(own, "photos@3" if epoch else "photos@1")))


def test_an_old_version_that_has_expired_is_named(own):
    write_dataset(own, "more", photos(100, (6, 7)), schema=SCHEMA)
    loader = loader_of(mixture_of(own, samples=300))
    next(iter(loader))
    state = state_of([loader])
    append(own, "photos", "more")
    expire(own, "photos", keep_last=1)
    fresh = loader_of(mixture_of(own, samples=300))
    with pytest.raises(StateMismatch, match=r"photos@1/train.*needs until its epoch is over.*expired"):
        fresh.load_state_dict(state)
    assert fresh.position == 0
    assert len(list(fresh)) == len(fresh)  # it is as it was


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(12 if os.environ.get("DATAPLANE_SOAK") else 2))
def test_everything_may_change_again_and_again(own, seed):
    """Weights, versions, components, world, batch size and threads, at random: every epoch of every component has each of its samples
    once."""
    draw = random.Random(seed)
    found, state, number = {}, None, 1000
    keys = {("photos", 1): keys_in(own, "photos"), ("text", 1): keys_in(own, "text"), ("drawings", 1): keys_in(own, "drawings")}
    for _ in range(14):
        for name, make, schema in (("photos", photos, SCHEMA), ("text", texts, own.dataset("text").schema)):
            if draw.random() < 0.25:
                write_dataset(own, f"more-{number}", make(number, (draw.randint(1, 6),)), schema=schema)
                append(own, name, f"more-{number}")
                keys[name, own.dataset(name).number] = keys_in(own, name)
                number += 100
        weights = {name: draw.choice([0, 1, 2, 3.5]) for name in ("photos", "drawings")} | {"text": 1}
        world = draw.choice([1, 2, 3, 5])
        options = {"batch_size": draw.randint(1, 5), "threads": draw.randint(0, 2), "tail": draw.choice(["drop", "short", "pad"])}
        names = set(WEIGHTS) - {draw.choice(["photos", "drawings", ""])} if draw.random() < 0.3 else set(WEIGHTS)
        parts = {name: own.dataset(name)["train"] for name in sorted(names)}
        data = mixture_of(own, weights={name: weights[name] for name in parts}, samples=150, **parts)
        ranks = [loader_of(data, rank=rank, world=world, **options) for rank in range(world)]
        for rank in ranks if state else ():
            rank.load_state_dict(state)
        steps = draw.randint(1, 40 // world)
        got = delivered([batch for rank in ranks for batch in islice(rank, steps)], ranks[0].components)
        assert not found.keys() & got.keys()
        found |= got
        state = state_of(ranks)
    assert state["epoch"] >= 1
    stands = MixtureState.from_dict(state)
    running = dict(zip(ranks[0].components, stands.blend().running(stands.delivered).tolist(), strict=True))
    for component in state["components"]:
        versions = component["versions"]

        def of_epoch(epoch, name=component["name"], versions=versions):
            return keys[name, [each["version"] for each in versions if each["first"] <= epoch][-1]]

        check_epochs(found, own, (component["name"], of_epoch), running=running)


def test_a_new_component_begins_at_its_start_and_one_left_out_comes_no_more(own):
    write_dataset(own, "late", texts(50, (9,)), schema=own.dataset("text").schema)
    loader = loader_of(mixture_of(own, samples=200))
    batches = first_of(loader, 10)
    parts = {name: own.dataset(name)["train"] for name in ("late", "text", "photos")}
    changed = loader_of(mixture_of(own, weights={"late": 1, "text": 1, "photos": 2}, samples=200, **parts))
    changed.load_state_dict(state_of([loader]))
    assert changed.components == ("photos", "drawings", "text", "late")
    assert changed.state_dict()["segments"][1] == {"start": 40, "weights": [2, 0, 1, 1]}
    rest = list(changed)
    found = delivered(rest, changed.components)
    shares = Counter(values[0] for values in found.values())
    assert shares.keys() == {"photos", "text", "late"}
    assert abs(shares["late"] - 40) < 8
    assert set(keys_of(found, "late")) == {f"text/{n:05d}" for n in range(50, 59)}
    # and it may come back, to go on where it stood
    back = loader_of(mixture_of(own, samples=200))
    middle = loader_of(mixture_of(own, weights={"late": 1, "text": 1, "photos": 2}, samples=200, **parts))
    middle.load_state_dict(state_of([loader]))
    batches += first_of(middle, 10)
    back.load_state_dict(state_of([middle]))
    assert back.state_dict()["segments"][2] == {"start": 80, "weights": [3, 2, 1, 0]}
    found = delivered([*batches, *back], back.components)
    check_epochs(found, own, ("drawings", lambda _: keys_in(own, "drawings")), ("text", lambda _: keys_in(own, "text")))


def test_a_padded_batch_needs_nothing_that_is_gone(own):
    """Its places that do not count are from the epoch's start, which a component may be of that was left out since."""
    loader = loader_of(mixture_of(own), tail="pad", batch_size=16)
    batches = first_of(loader, 2)
    two = {name: own.dataset(name)["train"] for name in ("photos", "drawings")}
    changed = loader_of(
        mixture_of(own, weights={"photos": 1, "drawings": 1}, samples=N, **two), transform=PICTURES, tail="pad", batch_size=16
    )
    changed.load_state_dict(state_of([loader]))
    rest = list(changed)
    assert [int(batch.valid.sum()) for batch in (*batches, *rest)] == [16] * (N // 16) + [N % 16]
    assert set(rest[-1].components[~rest[-1].valid].tolist()) <= {0, 1}


def test_a_ragged_field_is_empty_where_a_component_has_none(own):
    """Also in batches of two epochs of a component."""
    expected = {sample.key: sample.fields["len"] for sample in own.dataset("text")["train"]}
    loader = loader_of(mixture_of(own), transform={**PICTURES, "len": Bytes()}, batch_size=40)
    seen = Counter()
    for batch in (*loader, *loader, *loader):
        for i, key in enumerate(batch.sample_keys):
            assert bytes(batch["len"][i]) == (expected[key] if batch.components[i] == 2 else b"")
            seen[key] += batch.components[i] == 2
    assert all(seen[key] >= 2 for key in expected)


def test_a_bad_samples_error_names_its_component(lake):
    with pytest.raises(DataplaneError, match=rf"component 'photos' \(photos@1/train\): sample '{BAD}' of shard "):
        run(loader_of(mixture_of(lake), on_error="raise"))
    with pytest.raises(BadSamples, match=rf"sample '{BAD}' of component 'photos', of shard "):
        run(loader_of(mixture_of(lake), max_bad=0))


def test_a_small_component_does_not_drive_out_a_large_ones_order(own):
    """It has many epochs under way at one time, and drawing an order anew for each batch takes long where there are many shards."""
    mixed = Mixed(mixture_of(own, weights={"photos": 1, "drawings": 1, "text": 5}), TRANSFORM, Tier(None))
    walker = mixed.walker(mixed.begin(seed=1, lanes=48, window=6, shuffle=True))
    first = walker.at(np.arange(96))
    assert len(set(first.epochs[first.components == 2].tolist())) > 4
    kept = walker._walkers[0][0]
    walker.at(np.arange(96, 120))
    assert walker._walkers[0][0] is kept


def test_after_very_many_changes_of_weights_a_state_is_small_and_goes_on_at_once(lake):
    """Its tables are made once, not wherever they are looked at."""
    loader = loader_of(mixture_of(lake))
    state = loader.state_dict()
    state |= {"segments": [{"start": 50 * n, "weights": [1 + n % 5, 2, 1]} for n in range(10_000)], "origin": 499_990}
    assert len(json.dumps(state)) < 500_000
    loader.load_state_dict(state)
    assert loader.state_dict()["segments"][:-1] == state["segments"]
    blend = loader._course.blend(loader._state)
    batch = next(iter(loader))
    assert loader._course.blend(loader._state) is blend
    assert batch.component_epochs.max() > 1000


def test_a_mixture_reads_through_a_hot_tier(lake, whole, tmp_path):
    with loader_of(mixture_of(lake), hot=Hot(tmp_path / "hot", limit="64 MiB")) as loader:
        assert run(loader, 2) == whole
        assert loader.stats()["hot"]["misses"] > 0


# ---------------------------------------------------------------------- what cannot work


def test_what_is_no_mixture_is_refused(lake):
    split = lake.dataset("photos")["train"]
    for arguments, match in [
        (({},), "0 components"),
        (({"": split},), "named ''"),
        (({"a": "photos"},), "must be a split"),
        (({"a": split}, {"b": 1}), "weights are of b; give one for each of a"),
        (({"a": split}, {"a": -1}), "at least 0"),
        (({"a": split}, {"a": 0.0}), "all weights are 0"),
        (({"a": split}, {"a": float("nan")}), "must be a number"),
        (({"a": split}, None, 0), "samples is 0"),
    ]:
        with pytest.raises(InvalidArgument, match=match):
            Mixture(*arguments)


def test_what_cannot_be_loaded_is_refused(lake):
    mixture = mixture_of(lake)
    for options, match in [
        ({"transform": {**TRANSFORM, "nothing": Int64()}}, "no component has the field 'nothing'"),
        ({"transform": {"cls": Int64()}}, "no field of text@1/train, which has len"),
        ({"batch_size": 100, "tail": "drop"}, "fewer than one global batch"),
        ({"lanes": "4"}, "lanes is '4'"),
        ({"lanes": 2**31 - 1}, "lanes is 2147483647; those of a mixture"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"window": 0}, "window is 0"),
    ]:
        with pytest.raises(InvalidArgument, match=match):
            loader_of(mixture, **options)
    with pytest.raises(InvalidArgument, match="give one for each of photos, drawings, text"):
        loader_of(mixture).set_weights({"photos": 1})
    with pytest.raises(InvalidArgument, match="one dataset, and has no weights"):
        Loader(lake.dataset("text")["train"], batch_size=3, transform={"len": Int64()}).set_weights({"": 1})


def test_states_of_something_else_are_refused(own):
    mixed = loader_of(mixture_of(own))
    state = state_of([mixed])
    alone = Loader(own.dataset("text")["train"], batch_size=3, transform={"len": Int64()})
    with pytest.raises(StateMismatch, match=r"of a mixture \(photos, drawings, text\), this loader has one dataset"):
        alone.load_state_dict(state)
    with pytest.raises(StateMismatch, match="of text@1/train alone, this loader has a mixture"):
        mixed.load_state_dict(alone.state_dict())
    write_dataset(own, "more", photos(100, (6, 7)), schema=SCHEMA)
    append(own, "photos", "more")
    newer = loader_of(mixture_of(own))
    old = {name: own.dataset(spec)["train"] for name, spec in [("photos", "photos@1"), ("drawings", "drawings"), ("text", "text")]}
    older = loader_of(mixture_of(own, **old))
    with pytest.raises(StateMismatch, match=r"'photos' is photos@2/train in the state, and photos@1/train here"):
        older.load_state_dict(newer.state_dict())
    renamed = loader_of(mixture_of(own, **{**old, "photos": own.dataset("more")["train"]}))
    with pytest.raises(StateMismatch, match="give another dataset another name"):
        renamed.load_state_dict(state)
    for damage in ({"segments": []}, {"components": [{"name": "x", "versions": []}]}, {"lanes": 0}, {"position": -1}, {"origin": "x"}):
        with pytest.raises(StateMismatch):
            mixed.load_state_dict({**state, **damage})
    more = json.loads(json.dumps(state))
    more["components"][0]["versions"][0]["samples"] += 1
    with pytest.raises(StateMismatch, match=r"'photos' \(photos@1/train\) has 28 samples in the state, 27 here"):
        loader_of(mixture_of(own, **old)).load_state_dict(more)
    for damage in ({"seed": 2**64}, {"epoch": -1}, {"lanes": 0}, {"window": 0}):
        with pytest.raises(StateMismatch, match="damaged"):
            alone.load_state_dict({**alone.state_dict(), **damage})
    with pytest.raises(StateMismatch, match="lanes=4, this loader 2"):
        loader_of(mixture_of(own), lanes=2).load_state_dict(state)
    with pytest.raises(StateMismatch, match="window=6, this loader 9"):
        loader_of(mixture_of(own), window=9).load_state_dict(state)
    with pytest.raises(StateMismatch, match="shuffle"):
        loader_of(mixture_of(own), shuffle=False).load_state_dict(state)


# ---------------------------------------------------------------------- states of before


STATES = Path(__file__).resolve().parents[1] / "data" / "loader_states.json"


def test_states_of_both_formats_stay_readable():
    """Committed once, and never written again: what a checkpoint of years ago holds."""
    states = json.loads(STATES.read_text())
    for state in (states["split"], states["packed"]):
        assert State.from_dict(state).to_dict() == state
    mixture = MixtureState.from_dict(states["mixture"])
    assert mixture.to_dict() == states["mixture"]
    placed = mixture.blend().at(np.arange(states["at"], states["at"] + 24))
    assert np.stack(placed, axis=1).tolist() == states["placed"]
