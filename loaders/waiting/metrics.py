"""A loader's figures in the text form that Prometheus scrapes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["exposition"]

Labels = tuple[tuple[str, str], ...]
Samples = Sequence[tuple[str, Labels, float]]
"""Behind the family's name, labels of its own, value."""


def exposition(stats: Mapping[str, Any], *, labels: Mapping[str, str]) -> str:
    """What `Loader.stats()` has, in the text format 0.0.4; every series has `labels`. To be served as text/plain."""
    return "".join(_family(labels, *family) for family in _families(stats))


def _families(stats: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Samples]]:
    """Name, type, help, and the samples of each family."""
    waits = stats["waits"]
    by_stage = {name: wait for name, wait in waits.items() if name != "all"}
    yield "batches_total", "counter", "Batches delivered.", _one(stats["batches"])
    yield "samples_total", "counter", "Samples read and decoded.", _one(stats["samples"])
    yield "read_bytes_total", "counter", "Bytes read, by tier.", _by("tier", stats["bytes_by_tier"])
    wait_seconds = {name: wait["seconds"] for name, wait in by_stage.items()}
    yield "wait_seconds_total", "counter", "Seconds that the consumer waited, by what for.", _by("stage", wait_seconds)
    yield "consumer_seconds_total", "counter", "Seconds between batches that the consumer was busy.", _one(stats["consumer_seconds"])
    yield "thread_seconds_total", "counter", "Seconds of the loader's threads, by what they did.", _by("stage", stats["thread_seconds"])
    steps = [sample for name, wait in waits.items() for sample in _summary(("stage", name), wait, stats["batches"])]
    yield "step_wait_seconds", "summary", "What a step waited, by what for; quantiles are of the newest steps.", steps
    yield "threads", "gauge", "Threads that read and decode.", _one(stats["tuned"]["threads"])
    yield "prefetch", "gauge", "Batches prepared ahead.", _one(stats["tuned"]["prefetch"])
    bounds = {**dict.fromkeys(("consumer", *by_stage), 0.0), **({stats["bound_by"]: 1.0} if stats["bound_by"] else {})}
    yield "bound", "gauge", "1 for what bounds the run, 0 for the rest.", _by("by", bounds)


def _one(value: float) -> Samples:
    return [("", (), value)]


def _by(label: str, values: Mapping[str, float]) -> Samples:
    return [("", ((label, name),), value) for name, value in values.items()]


def _summary(which: tuple[str, str], wait: Mapping[str, float], count: int) -> Samples:
    quantiles: Samples = [("", (which, ("quantile", share)), wait[name]) for share, name in (("0.5", "p50"), ("0.99", "p99"))]
    return [*quantiles, ("_sum", (which,), wait["seconds"]), ("_count", (which,), count)]


def _family(labels: Mapping[str, str], name: str, kind: str, about: str, samples: Samples) -> str:
    lines = [f"# HELP dataplane_loader_{name} {about}", f"# TYPE dataplane_loader_{name} {kind}"]
    for suffix, own, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in (*labels.items(), *own))
        lines.append(f"dataplane_loader_{name}{suffix}{f'{{{inside}}}' if inside else ''} {float(value)!r}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
