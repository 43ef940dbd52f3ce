"""Gathers what the report shows: from the steps that were done, and from what the lake recorded of them."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from dataplane import Lake
from dataplane.checkpoint import Checkpoints, open_model
from train.config import load_config
from train.demo import history
from train.demo.pictures import first_batch
from train.demo.steps import Done, Subject
from train.demo.story import Story
from train.demo.workspace import Workspace

__all__ = ["tell"]


def tell(subject: Subject, place: Workspace, done: Done) -> Story:
    """The story of a demo that went well."""
    lake = Lake(str(place.lake))
    version = lake.dataset(subject.name).version
    rows = [row for checkpoint in Checkpoints(lake, subject.run).history() for row in checkpoint.progress.rows]
    return Story(
        title="Handwritten digits: from pictures to answers" if subject.digits else f"{subject.name}: from pictures to answers",
        accuracy=done.accuracy,
        samples=version.samples,
        classes=len(version.schema.classes),
        tested=done.tested,
        seconds=sum(step.seconds for step in done.steps),
        steps=done.steps,
        pictures=first_batch(lake, load_config(place.config, ())),
        intervals=history.intervals(rows, done.crash),
        validations=history.validations(rows),
        crash=done.crash,
        check=done.check,
        times=history.times(rows, done.crash),
        facts=_facts(subject, lake),
        next_commands=_next(subject, place),
    )


def _facts(subject: Subject, lake: Lake) -> tuple[tuple[str, str], ...]:
    version = lake.dataset(subject.name).version
    run, model = Checkpoints(lake, subject.run).history(), open_model(lake, subject.model)
    packages = ("dataplane", "torch", "numpy")
    return (
        ("Dataset", f"{version}, made by {version.lineage['operation']} from {subject.source}; commit {version.id}"),
        ("Run", f"{subject.run}, trained on {run[-1].progress.dataset}; {len(run)} checkpoints, the last of step {run[-1].progress.step}"),
        ("Model", f"{model}, from checkpoint {model.checkpoint} of {model.run}; weights {model.weights}"),
        ("Lake", f"{lake.url}, id {lake.id}"),
        ("Software", ", ".join(f"{name} {metadata.version(name)}" for name in packages) + f", Python {platform.python_version()}"),
        ("Machine", f"{platform.system()} on {platform.machine()}, {len(os.sched_getaffinity(0))} cores"),
    )


def _next(subject: Subject, place: Workspace) -> tuple[tuple[str, str], ...]:
    dataplane = f"dataplane --lake {place.lake}"
    python = (
        "from dataplane import Lake\n"
        f'train = Lake("{place.lake}").dataset("{subject.name}")["train"]\n'
        "print(len(train), train[0].key, train[0].fields.keys())"
    )
    return (
        ("Do it all with pictures of your own, in a folder for each class:", "dataplane demo --data FOLDER --dir another-demo"),
        ("Serve the model again, and ask it about any picture:", f"{dataplane} serve {subject.model}"),
        ("Change the configuration, and train again:", f"{dataplane} train {place.config} --run {subject.name}-second"),
        ("Look at samples in Python:", python),
        ("See what the command line can do:", "dataplane --help"),
    )
