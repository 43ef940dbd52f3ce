"""The demo from beginning to end: each step's command, why it is done, and what is checked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from dataplane import Lake
from dataplane.output import BAD_INPUT, human_bytes
from train.demo.digits import write_digits
from train.demo.processes import Command, DemoFailed
from train.demo.recipe import Recipe, choose, configuration
from train.demo.samples import SampleCheck, check_samples, ensure_exactly_once, read_deliveries
from train.demo.serving import serve_and_ask
from train.demo.story import Crash, Step
from train.demo.tour import Outcome, Tour
from train.demo.training import find_crash, kill_at
from train.demo.workspace import Workspace

__all__ = ["Done", "Subject", "perform"]

_SPLITS: Final = {"train": 0.8, "val": 0.1, "test": 0.1}
_ONE_THREAD: Final = ("OMP_NUM_THREADS=1",)  # of 8 × 8 pixels, one computes as fast as two, and far faster where cores are busy


@dataclass(frozen=True, slots=True)
class Subject:
    """What the demo is about: the pictures in `source`, called `name`. `bar` is the accuracy to reach on the test pictures.

    `digits`: the demo writes the pictures into `source` itself, and knows that a mirrored digit is none.
    """

    name: str
    source: Path
    digits: bool
    bar: float

    @property
    def run(self) -> str:
        return f"{self.name}-cnn"

    @property
    def model(self) -> str:
        return f"{self.name}-classifier"


@dataclass(frozen=True, slots=True)
class Done:
    """A demo that went well."""

    steps: tuple[Step, ...]
    crash: Crash
    check: SampleCheck
    tested: int
    accuracy: float


def perform(subject: Subject, place: Workspace, console: Console) -> Done:
    """Do every step. Raises `DemoFailed` where one does not do what it should."""
    demo = _Demo(subject, place, console)
    if subject.digits:
        demo.write_pictures()
    demo.ingest()
    demo.show()
    recipe = demo.configure()
    crash = demo.train_and_kill(recipe)
    demo.resume(crash)
    check = demo.count_samples(recipe, crash)
    demo.look_at_hot()
    score = demo.evaluate()
    demo.publish()
    demo.serve()
    demo.verify()
    return Done(tuple(demo.tour.steps), crash, check, score["samples"], score["metrics"]["accuracy"])


class _Demo:
    """The steps, in the order in which they are done."""

    def __init__(self, subject: Subject, place: Workspace, console: Console) -> None:
        self.subject = subject
        self.place = place
        self.tour = Tour(console)
        self._lake = str(place.lake)

    def write_pictures(self) -> None:
        def work() -> Outcome:
            count = write_digits(self.subject.source)
            return f"{count:,} pictures in {self.subject.source}", {"pictures": count}

        why = "Real handwritten digits, which come with scikit-learn, as PNG files of 8 × 8 pixels, a folder for each class."
        self.tour.step("Pictures", why, "", work)

    def ingest(self) -> None:
        shards = ("--shard-bytes", "16KiB") if self.subject.digits else ()
        split = ",".join(f"{name}={share}" for name, share in _SPLITS.items())
        self.tour.command(
            "Ingest",
            "Checks every picture, labels it by its folder, puts it into a split by a hash of its name, packs splits into shards, and "
            "commits them as version 1 of a dataset.",
            self._command("ingest", str(self.subject.source), self.subject.name, "--label-from", "folder", "--split", split, *shards),
            _ingested,
            allowed=(0, BAD_INPUT),
        )

    def show(self) -> None:
        def told(shown: Mapping[str, Any]) -> str:
            splits = ", ".join(f"{name} {count['samples']:,}" for name, count in shown["splits"].items())
            return f"Samples: {splits}; {len(shown['classes'])} classes"

        why = "A version never changes. It knows its splits, fields and classes, and where it came from."
        self.tour.command("Show", why, self._command("show", self.subject.name), told)

    def configure(self) -> Recipe:
        """Write the training configuration; how it was chosen. Raises `DemoFailed` for too few pictures."""
        dataset = Lake(self._lake).dataset(self.subject.name)
        missing = [name for name in _SPLITS if name not in dataset.splits]
        if missing:
            raise DemoFailed(f"{dataset} has so few pictures that none is in {' and '.join(missing)}; give the demo a folder with more")
        sides = sorted(min(size["width"], size["height"]) for size in dataset.metadata(["width", "height"]).to_pylist())
        recipe = choose(len(dataset["train"]), sides[len(sides) // 2], mirror=not self.subject.digits)
        text = configuration(recipe, dataset=self.subject.name, lake=self.place.lake, config=self.place.config, hot=self.place.hot)
        self.place.config.write_text(text, encoding="utf-8")
        return recipe

    def train_and_kill(self, recipe: Recipe) -> Crash:
        """Train, and kill it. Where the kill came too late, between two epochs, go on and kill it in the next."""
        for step in recipe.kill_steps():
            command = self._train("--resume") if self.place.samples.exists() else self._train()
            self.tour.step(
                "Train, and kill it",
                f"Trains a small network through the hot tier and saves a checkpoint every {recipe.checkpoint_every} steps. When it "
                f"reports step {step}, in the middle of an epoch of {recipe.steps}, the demo kills it.",
                str(command),
                partial(self._killed, command, step),
                kind="killed",
            )
            crash = find_crash(self._lake, self.subject.run, self.place.samples)
            if crash:
                return crash
        raise DemoFailed("no kill came in the middle of an epoch, since this machine is very busy; run the demo again")

    def resume(self, crash: Crash) -> None:
        self.tour.command(
            "Resume",
            f"Model, optimizer, random numbers and the loader go on from the newest checkpoint: step {crash.resumed_step}, after "
            f"{crash.position:,} samples of epoch {crash.epoch + 1}.",
            self._train("--resume"),
            lambda done: f"{done['steps']:,} steps are done; validation: {_metrics(done['metrics'], 'val_').lower()}",
            kind="resumed",
        )

    def count_samples(self, recipe: Recipe, crash: Crash) -> SampleCheck:
        """Raises `DemoFailed` where an epoch did not get every sample exactly once."""
        table = Lake(self._lake).dataset(self.subject.name).metadata(["key", "split"]).to_pylist()
        keys = [row["key"] for row in table if row["split"] == "train"]
        check = check_samples(read_deliveries(self.place.samples), keys, epochs=recipe.epochs)

        def work() -> Outcome:
            ensure_exactly_once(check)
            sentence = f"Epoch {crash.epoch + 1}, killed and resumed, and the others: each of {len(keys):,} samples exactly once"
            return sentence, {"epochs": [asdict(epoch) for epoch in check.epochs], "crash": asdict(crash)}

        why = (
            "Holds the sample log, which training writes, against the keys in the lake. Resuming took back the lines newer than the "
            f"checkpoint: {crash.undone:,} samples, whose training was lost with the process, came again."
        )
        self.tour.step("Count the samples", why, "", work)
        return check

    def look_at_hot(self) -> None:
        def told(status: Mapping[str, Any]) -> str:
            (hot,) = status["tiers"]
            return f"{hot['objects']:,} objects, {human_bytes(hot['bytes'])}; {hot['hits']:,} hits, {hot['misses']:,} misses"

        why = (
            "Each shard was fetched from the lake once, verified, and kept here for every run on this machine. What the killed process "
            "had counted was lost with it."
        )
        self.tour.command("Look at the hot tier", why, Command(("tier", "status", "--hot", str(self.place.hot))), told)

    def evaluate(self) -> Mapping[str, Any]:
        """Raises `DemoFailed` where the accuracy is under the bar."""
        score = self.tour.command(
            "Evaluate",
            "Scores the newest checkpoint on pictures it was not trained on, and writes the result into the run.",
            self._command("evaluate", self.subject.run, "--split", "test"),
            lambda score: f"{_metrics(score['metrics'], '')} on {score['samples']:,} test pictures",
        )
        accuracy = score["metrics"]["accuracy"]
        if accuracy < self.subject.bar:
            raise DemoFailed(f"the accuracy on the test pictures is {accuracy:.1%}; it should be at least {self.subject.bar:.0%}")
        return score

    def publish(self) -> None:
        self.tour.command(
            "Publish",
            "Makes the checkpoint a model with a name, with its classes, transforms and where it came from. No tensor is copied.",
            self._command("publish", self.subject.run, self.subject.model),
            lambda done: f"{done['model']}@{done['version']} is checkpoint {done['checkpoint']} of {done['run']}",
        )

    def serve(self) -> None:
        dataset = Lake(self._lake).dataset(self.subject.name)
        serve_and_ask(self.tour, self._command("serve", self.subject.model, "--port", "0"), dataset, self.subject.source)

    def verify(self) -> None:
        self.tour.command(
            "Verify",
            "Reads every object in the lake and holds it against its digest, and checks every index and commit.",
            self._command("verify"),
            lambda found: f"{found['objects']:,} objects, {human_bytes(found['bytes'])}: all good",
        )

    def _killed(self, command: Command, step: int) -> Outcome:
        with self.tour.console.status("training") as status:
            killed = kill_at(command, step, status)
        return f"Process {killed} got SIGKILL, which leaves no moment to save or say anything", {"killed": killed}

    def _command(self, *arguments: str) -> Command:
        return Command(("--lake", self._lake, *arguments))

    def _train(self, *more: str) -> Command:
        log = f"sample_log={self.place.sample_log}"
        command = self._command("train", str(self.place.config), "--run", self.subject.run, "--set", log, *more)
        return replace(command, settings=_ONE_THREAD if self.subject.digits else ())


def _ingested(done: Mapping[str, Any]) -> str:
    bad = f"; {len(done['bad'])} files were bad and are listed in the commit" if done["bad"] else ""
    return f"{done['name']}@{done['version']}: {done['samples']:,} samples in {done['shards']:,} shards, {human_bytes(done['bytes'])}{bad}"


def _metrics(metrics: Mapping[str, Any], prefix: str) -> str:
    return f"Accuracy {metrics[prefix + 'accuracy']:.1%}, loss {metrics[prefix + 'loss']:.3f}"
