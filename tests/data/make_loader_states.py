"""Writes loader_states.json beside it: `python tests/data/make_loader_states.py`.

Provenance of the states: they were written once, by the release that made format 2. `split` is what format 1 has been since the first
release; `placed` is what stands at 24 positions from `at` on of `mixture`, as (component, era, epoch, position). If a change makes any of
it differ, then a run that resumes from a checkpoint of before gets other samples than it should, so the change is wrong.
"""

import json
from pathlib import Path

import numpy as np

from loaders.blend import Segment
from loaders.blended import Component, MixtureState, Taken
from loaders.state import State

PATH = Path(__file__).with_name("loader_states.json")

PLAIN = ("photos", 7, "ab" * 16, "train", 1000, 3, 2, 512, 48, 1200, True)
HOW = {"field": "tokens", "how": "concat", "length": 2048}


def mixture():
    photos = Component("photos", (Taken(0, "photos", 7, "ab" * 16, "train", 100, 60), Taken(3, "photos", 8, "cd" * 16, "train", 130, 60)))
    words = Component("words", (Taken(0, "books", 2, "ef" * 16, "train", 75, 20, HOW),))
    late = Component("late", (Taken(0, "late", 1, "01" * 16, "train", 24, 9),))
    segments = (Segment(0, (3, 1)), Segment(310, (1, 1, 2)))
    return MixtureState(5, 24, True, 1, 320, 198, (photos, words, late), segments)


if __name__ == "__main__":
    state = mixture()
    placed = state.blend().at(np.arange(state.delivered, state.delivered + 24))
    states = {
        "split": State(*PLAIN).to_dict(),
        "packed": State(*PLAIN, HOW).to_dict(),
        "mixture": state.to_dict(),
        "at": state.delivered,
        "placed": np.stack(placed, axis=1).tolist(),
    }
    PATH.write_text(json.dumps(states, indent=1) + "\n")
