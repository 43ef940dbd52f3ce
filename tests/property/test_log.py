"""Whatever fails and in whatever order writers come, a log neither loses nor doubles a commit."""

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import log as log_module
from dataplane.errors import StoreUnavailable
from dataplane.log import Log
from dataplane.store import WrapperStore, open_store

outcomes = st.lists(st.sampled_from(["ok", "refused", "lost", "overtaken"]), max_size=40)


class Scripted(WrapperStore):
    """Puts go as the script says; "overtaken" lets another writer take the number first."""

    def __init__(self, inner, script):
        super().__init__(inner)
        self.script = list(script)
        self.others = 0

    def put(self, path, file, **options):
        outcome = self.script.pop(0) if self.script else "ok"
        if outcome == "refused":
            raise StoreUnavailable("injected: refused")
        if outcome == "overtaken":
            self.others += 1
            Log(self.inner, "log").append(lambda _: {"who": "other"})
        done = self.inner.put(path, file, **options)
        if outcome == "lost":
            raise StoreUnavailable("injected: lost")
        return done


@settings(deadline=None, max_examples=150)
@given(outcomes, st.integers(1, 6))
def test_no_commit_is_lost_or_doubled(script, commits):
    store = Scripted(open_store(f"memory://{uuid.uuid4().hex}"), script)
    acknowledged, unknown = [], []
    pause, log_module.time.sleep = log_module.time.sleep, lambda _: None
    try:
        for number in range(commits):
            try:
                Log(store, "log").append(lambda _, number=number: {"who": "me", "number": number})
                acknowledged.append(number)
            except StoreUnavailable:
                unknown.append(number)
    finally:
        log_module.time.sleep = pause
    bodies = [entry.body for entry in Log(store.inner, "log")]
    mine = [body["number"] for body in bodies if body["who"] == "me"]
    assert len(mine) == len(set(mine))
    assert set(acknowledged) <= set(mine) <= set(acknowledged) | set(unknown)
    assert mine == sorted(mine)
    assert sum(body["who"] == "other" for body in bodies) == store.others
