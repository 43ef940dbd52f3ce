"""From what threads did to what a run waits for: the rule, the figures, the sentence, the forms they are told in."""

import io
import json
import os
import signal
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from dataplane.errors import InvalidArgument
from dataplane.stages import Clock, Stage
from loaders.pipeline import Handed
from loaders.stats import Spent, Stats
from loaders.tier import Tier
from loaders.waiting.attribution import Step, attribute
from loaders.waiting.metrics import exposition
from loaders.waiting.recent import WAITS, Lap, Recent, percentile
from loaders.waiting.trace import Tracer, slices
from loaders.waiting.tuning import Setting
from loaders.waiting.verdict import Circumstances, verdict
from loaders.waiting.view import Seen, view

SECONDS = st.floats(0, 100)
ABOUT = Circumstances(threads=2, cores=2)


def waits(**seconds):
    """Seconds by stage."""
    found = [0.0] * len(Stage)
    for name, value in seconds.items():
        found[Stage[name.upper()]] = value
    return tuple(found)


def recent(*, consumer=0.0, steps=10, **seconds):
    return Recent(tuple(Step(consumer, waits(**seconds), n) for n in range(steps)))


@given(SECONDS, SECONDS, SECONDS, st.lists(SECONDS, min_size=len(Stage), max_size=len(Stage)))
def test_a_wait_is_attributed_whole(planning, blocked, copying, spent):
    found = attribute(planning=planning, blocked=blocked, copying=copying, spent=spent)
    assert sum(found) == pytest.approx(planning + blocked + copying)
    assert found[Stage.IDLE] == 0
    assert min(found) >= 0
    assert found[Stage.COPY] >= copying
    assert found[Stage.PLAN] >= planning


def test_being_blocked_is_split_as_the_thread_spent_it():
    found = attribute(planning=1.0, blocked=10.0, copying=2.0, spent=waits(cold=3, decode=1, idle=1))
    assert found == pytest.approx(waits(plan=1 + 2, cold=6, decode=2, copy=2))


@pytest.mark.parametrize("spent", [(), waits()])
def test_what_nobody_knows_is_planning(spent):
    assert attribute(planning=1.0, blocked=2.0, copying=0.0, spent=spent) == waits(plan=3)


def test_percentiles_are_nearest_ranks():
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 101), 1.0) == 100
    assert percentile([7.0], 0.01) == 7.0


def test_recent_is_what_lies_between_the_first_and_the_last_lap():
    steps = [Step(1.0, waits(cold=1.0), end) for end in (1.0, 2.0, 3.0)]
    laps = [Lap(1.0, 1, 8, 100, waits(cold=1)), Lap(3.0, 3, 24, 500, waits(cold=5, idle=2))]
    found = Recent.of(steps, laps)
    assert found.steps == tuple(steps[1:])
    assert (found.seconds, found.samples, found.bytes) == (2.0, 16, 400)
    assert found.work == waits(cold=4, idle=2)
    assert (found.waiting, found.idle) == (0.5, pytest.approx(1 / 3))
    assert Recent.of(steps, laps[:1]).steps == tuple(steps)


@pytest.mark.parametrize("stage", WAITS)
def test_the_longest_wait_is_what_bounds(stage):
    others = {each.name.lower(): 0.2 for each in WAITS}
    found = verdict(recent(consumer=0.5, **{**others, stage.name.lower(): 0.5}), ABOUT)
    assert found.bound_by == stage.name.lower()
    assert "33% of the waiting, which takes 75% of the time" in found.sentence
    assert found.sentence.endswith(".")
    assert found.sentence.count(". ") == 0  # one sentence


def test_a_model_that_hardly_waits_is_what_bounds():
    found = verdict(recent(consumer=1.0, cold=0.05), ABOUT)
    assert found.bound_by == "consumer"
    assert "The model bounds this run" in found.sentence
    assert verdict(recent(consumer=1.0, cold=0.2), ABOUT).bound_by == "cold"
    assert verdict(Recent(), ABOUT).bound_by == ""


@pytest.mark.parametrize(
    ("about", "seconds", "says"),
    [
        ({}, {"cold": 1}, "hot=Hot("),
        ({"hot": True}, {"cold": 1}, "will come faster"),
        ({"hot": True, "evicting": True}, {"cold": 1}, "larger limit"),
        ({"tried": True}, {"cold": 1}, "more threads than 2 did not help"),
        ({"tried": False}, {"cold": 1}, "more threads (2 now)"),
        ({"limited": True}, {"cold": 1}, "Limits(threads=…)"),
        ({"threads": 1}, {"decode": 1}, "more threads help (1 now, on 2 cores)"),
        ({}, {"decode": 1}, "more cores help"),
        ({}, {"transform": 1}, "Map(fn, processes=n)"),
        ({}, {"copy": 1}, "pinned"),
        ({}, {"plan": 1}, "larger batches"),
    ],
)
def test_advice_fits_the_circumstances(about, seconds, says):
    assert says in verdict(recent(**seconds), Circumstances(**{"threads": 2, "cores": 2, **about})).sentence


def delivered(stats, *, asked, planned, got, spent=(), samples=4):
    return stats.delivered(Handed(asked, planned, got, spent), samples=samples)


def test_steps_fill_the_time_between_deliveries(monkeypatch):
    end = iter([10.5, 20.0])
    monkeypatch.setattr("loaders.stats.perf_counter", lambda: next(end, 20.0))
    stats = Stats()
    stats.begin()
    delivered(stats, asked=9.0, planned=9.5, got=10.0)
    stats.copied(2.0)
    delivered(stats, asked=15.5, planned=16.0, got=19.0, spent=waits(cold=1, decode=2))
    first, second = stats._steps
    assert (first.consumer, first.wait) == (0.0, 1.5)
    assert (second.consumer, second.wait) == (3.0, 6.5)  # away for 5 s, of which 2 copied
    assert second.waits == pytest.approx(waits(plan=0.5, cold=1, decode=2, copy=3))
    assert second.consumer + second.wait == 20.0 - 10.5
    stats.begin()
    assert stats.to_dict()["consumer_seconds"] == 3.0


def test_threads_that_are_gone_still_count():
    stats = Stats()
    for _ in range(3):
        clock = stats.clock("a")
        clock.enter(Stage.DECODE)
        clock.end()
    total = stats.to_dict()["thread_seconds"]["decode"]
    assert total > 0
    stats.clock("b")
    assert len(stats._clocks) == 1
    assert stats.to_dict()["thread_seconds"]["decode"] == pytest.approx(total)


class Late(Clock):
    """One that somebody reads while its thread, which saw the time already, has not said yet what it does now."""

    late = 0.0

    def totals(self):
        return [seconds + (self.late if stage == Stage.IDLE else 0.0) for stage, seconds in enumerate(super().totals())]


def test_seconds_of_threads_never_get_less():
    """For who scrapes counters, one that gets less began anew."""
    stats = Stats()
    clock = Late("a")
    stats._clocks.append(clock)
    clock.late = 5.0
    before = stats.to_dict()["thread_seconds"]
    clock.late = 0.0
    clock.end()
    assert stats.to_dict()["thread_seconds"]["idle"] >= before["idle"] >= 5.0


def test_a_handler_of_signals_may_ask():
    """It runs on the consumer's thread, in the middle of anything."""

    class Steps(deque):
        def append(self, step):
            super().append(step)
            seen.append(stats.to_dict())

    stats, seen = Stats(), []
    stats._steps = Steps()
    asker = threading.Thread(target=delivered, args=(stats,), kwargs={"asked": 1.0, "planned": 1.0, "got": 1.0}, daemon=True)
    asker.start()
    asker.join(5)
    assert len(seen) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what this is about
def test_a_forked_child_may_ask_whatever_went_on():
    stats, tier, held, over = Stats(), Tier(None), threading.Event(), threading.Event()

    def hold():
        with stats._lock, tier._lock:
            held.set()
            over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    child = os.fork()
    if not child:
        signal.alarm(5)  # should it hang
        try:
            stats.to_dict()
            tier.close()
            os._exit(7)
        finally:
            os._exit(2)
    over.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_after_a_long_pause_what_was_seen_before_it_is_no_news(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("loaders.stats.perf_counter", lambda: now[0])
    stats = Stats()
    for _ in range(3):
        now[0] += 6.0
        delivered(stats, asked=now[0], planned=now[0], got=now[0])
    assert stats.recent().seconds == 12.0
    now[0] += 1.0
    stats.begin()
    assert stats.recent().seconds == 12.0
    now[0] += 100.0
    stats.begin()
    assert stats.recent().seconds == 0.0


def stats_dict(**change):
    stats = Stats()
    stats.add(Spent(5, 1000))
    delivered(stats, asked=1.0, planned=1.5, got=2.0)
    more = {"bytes_by_tier": {"cold": 1000, "hot": 0}, "tuned": {"threads": 2, "prefetch": 3}, "bound_by": "plan"}
    return {**stats.to_dict(), **more, **change}


def test_prometheus_reads_the_metrics():
    text = exposition(stats_dict(), labels={"data": 'odd "name"\\', "rank": "1"})
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {
        f"dataplane_loader_{name}"
        for name in (
            "batches",
            "samples",
            "read_bytes",
            "wait_seconds",
            "consumer_seconds",
            "thread_seconds",
            "step_wait_seconds",
            "threads",
            "prefetch",
            "bound",
        )
    }
    for family in families.values():
        assert family.documentation
        assert all(sample.labels["data"] == 'odd "name"\\' and sample.labels["rank"] == "1" for sample in family.samples)
    samples = [sample for family in families.values() for sample in family.samples]
    values = {(sample.name, sample.labels.get("stage") or sample.labels.get("by")): sample.value for sample in samples}
    assert values["dataplane_loader_samples_total", None] == 5
    assert values["dataplane_loader_bound", "plan"] == 1
    assert values["dataplane_loader_bound", "cold"] == 0
    assert values["dataplane_loader_wait_seconds_total", "plan"] == pytest.approx(1.0)
    quantiles = families["dataplane_loader_step_wait_seconds"]
    assert quantiles.type == "summary"  # the only type that may have this label
    assert {sample.labels["quantile"] for sample in quantiles.samples if "quantile" in sample.labels} == {"0.5", "0.99"}
    assert values["dataplane_loader_step_wait_seconds_sum", "plan"] == pytest.approx(1.0)
    assert values["dataplane_loader_step_wait_seconds_count", "plan"] == 1
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in samples}) == len(samples)


def test_before_the_first_batch_nothing_bounds():
    text = exposition(stats_dict(bound_by=""), labels={})
    assert "dataplane_loader_batches_total 1.0\n" in text
    assert 'dataplane_loader_bound{by="cold"} 0.0' in text


def test_slices_leave_out_idle_time_and_none():
    changes = [(0.0, Stage.IDLE), (1.0, Stage.COLD), (3.0, Stage.DECODE), (3.0, Stage.TRANSFORM), (4.0, Stage.IDLE), (5.0, Stage.COLD)]
    assert list(slices(changes, 7.0)) == [(Stage.COLD, 1.0, 3.0), (Stage.TRANSFORM, 3.0, 4.0), (Stage.COLD, 5.0, 7.0)]
    assert list(slices([], 1.0)) == []


def test_a_trace_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(InvalidArgument, match="no trace can be written"):
        Tracer("x").write(tmp_path)


def test_a_trace_that_cannot_be_written_leaves_an_older_one(tmp_path, monkeypatch):
    file = tmp_path / "trace.json"
    file.write_text("older")

    def broken(self, now):
        yield {}
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Tracer, "_events", broken)
    with pytest.raises(InvalidArgument, match="No space left"):
        Tracer("x").write(file)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("trace.json", "older")]


def test_a_trace_that_nobody_ends_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("loaders.waiting.trace._KEPT", 10)
    tracer, clock = Tracer("x"), Clock("reader")
    tracer.watch(clock)
    for n in range(100):
        clock.enter(Stage.COLD if n % 2 else Stage.DECODE)
        tracer.step(Step(0.0, waits(cold=1.0), n), asked=n, got=n, samples=1)
    tracer.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["args"]["batch"] for event in events if event["name"] == "waiting"] == list(range(90, 100))
    assert 8 <= sum(event["tid"] == 1 and event["ph"] == "X" for event in events) <= 10


def test_a_trace_has_a_track_for_each_thread(tmp_path):
    tracer, clock = Tracer("x"), Clock("reader")
    tracer.watch(clock)
    clock.enter(Stage.COLD)
    clock.enter(Stage.IDLE)
    tracer.step(Step(0.0, waits(cold=0.25), 2e9), asked=1e9, got=1.5e9, samples=7)
    tracer.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {event["args"]["name"] for event in events if event["name"] == "thread_name"} == {"consumer", "reader"}
    assert [event["tid"] for event in events if event["name"] == "cold"] == [1]
    (wait,) = (event for event in events if event["name"] == "waiting")
    assert wait["args"] == {"batch": 0, "samples": 7, "milliseconds": {"cold": 250.0}}


def test_the_view_shows_a_name_as_it_is():
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(view(Seen("a mixture of [/red], [b]", Recent(), verdict(Recent(), ABOUT), Setting(2, 3), {})))
    assert "a mixture of [/red], [b]" in console.export_text()


@pytest.mark.parametrize("seen", [Recent(), recent(consumer=0.001, decode=0.2), recent(consumer=90.0)])
def test_the_view_fits_a_terminal(seen):
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(view(Seen("photos@1/train", seen, verdict(seen, ABOUT), Setting(2, 3), {"cold": 10**9, "hot": 0})))
    text = console.export_text()
    assert verdict(seen, ABOUT).sentence.split(":")[0].split(".")[0][:40] in text
    assert "p99" in text
    assert "3 batches" in text
    assert max(map(len, text.splitlines())) <= 80
