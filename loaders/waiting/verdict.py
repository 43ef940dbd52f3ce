"""What bounds a run, and what would help, in one sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dataplane.stages import Stage
from loaders.waiting.recent import WAITS, Recent

__all__ = ["CONSUMER", "Circumstances", "Verdict", "verdict"]

CONSUMER: Final = "consumer"

_UNFELT: Final = 0.1  # share of waiting below which the consumer is what bounds


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a loader works with: for advice that fits. `hot` says whether there is a hot tier, `evicting` whether it has had to drop
    objects, `tried` that more threads did not help, `limited` that the loader may take no more."""

    threads: int
    cores: int
    hot: bool = False
    evicting: bool = False
    tried: bool = False
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`bound_by` is "cold", "hot", "decode", "transform", "copy", "plan", or "consumer"; "" where nothing was delivered yet."""

    bound_by: str
    sentence: str


def verdict(recent: Recent, about: Circumstances) -> Verdict:
    """What the steps of `recent` were bound by. A consumer that waits for less than a tenth of its time is what bounds."""
    if not recent.steps:
        return Verdict("", "Nothing was delivered yet.")
    waits, waiting = recent.waits, recent.waiting
    if waiting < _UNFELT:
        idle = f", and the loader's threads are idle for {recent.idle:.0%} of theirs" if recent.idle > 0 else ""
        text = f"The model bounds this run: it waits for {waiting:.0%} of its time{idle}, so a faster loader would change nothing."
        return Verdict(CONSUMER, text)
    stage = max(WAITS, key=lambda each: waits[each])
    name = "Planning" if stage is Stage.PLAN else f"{_NAMES[stage][0].upper()}{_NAMES[stage][1:]}"
    share = f"{waits[stage] / sum(waits):.0%} of the waiting, which takes {waiting:.0%} of the time"
    return Verdict(stage.name.lower(), f"{name} bounds this run ({share}): {_advice(stage, about)}.")


_NAMES: Final = {
    Stage.COLD: "the cold tier",
    Stage.HOT: "the hot tier",
    Stage.DECODE: "decoding",
    Stage.TRANSFORM: "transforming",
    Stage.COPY: "copying to where the model wants the batch",
    Stage.PLAN: "planning",
}


def _advice(stage: Stage, about: Circumstances) -> str:
    """Which knob helps, as the end of a sentence."""
    few = about.threads < about.cores
    if stage is Stage.COLD:
        if not about.hot:
            keep = "a hot tier, hot=Hot(folder, limit), would keep what was read"
        elif about.evicting:
            keep = "a larger limit of the hot tier would keep more of it"
        else:
            keep = "what was read once is kept by the hot tier and will come faster"
        return f"{keep}; {_threads(about, 'wait for it side by side')}"
    if stage is Stage.HOT:
        return f"a faster local disk or smaller samples help; {_threads(about, 'keep more reads under way')}"
    if stage is Stage.DECODE:
        if few:
            return f"more threads help ({about.threads} now, on {about.cores} cores)"
        cores = f"more cores help ({about.cores} now, {about.threads} threads)"
        return f"{cores}, and so do smaller pictures (dataplane ingest --max-side) or pixels that need no decoding (dataplane materialize)"
    if stage is Stage.TRANSFORM:
        more = f"more threads help ({about.threads} now, on {about.cores} cores)" if few else f"more cores help ({about.cores} now)"
        return f"{more}, and so does doing less there; Map(fn, processes=n) is for code that holds Python's lock"
    if stage is Stage.COPY:
        return "smaller types (uint8 instead of float32), pinned memory or a smaller batch help"
    return "larger batches, or fewer fields, make Python's share smaller"


def _threads(about: Circumstances, what: str) -> str:
    """What is to be said of more of them."""
    if about.tried:
        return f"more threads than {about.threads} did not help"
    return f"more threads ({about.threads} now{', as many as limits=Limits(threads=…) allows' if about.limited else ''}) {what}"
