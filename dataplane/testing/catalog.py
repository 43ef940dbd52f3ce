"""The catalog against a dictionary: a state machine for Hypothesis, for stores and for changes to the catalog itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dataplane.catalog import Change, Version
from dataplane.errors import AlreadyExists, CommitConflict, DataplaneError, InvalidArgument, NotFound, StoreUnavailable
from dataplane.lake import Lake
from dataplane.schema import Field, Schema
from dataplane.store import Store, open_store
from dataplane.testing.faults import Fault, FaultStore
from dataplane.testing.samples import Made, change_to, write_dataset
from dataplane.upkeep import expire, gc, rm, verify_lake
from dataplane.versions import append, clone, where
from dataplane.versions.append import OnConflict

__all__ = ["CatalogMachine"]

Samples = Mapping[str, tuple[str, bytes]]

_SCHEMA: Final = Schema((Field("txt", "bytes"),))
_KEYS: Final = tuple(f"k{number}" for number in range(6))
_NAMES: Final = st.sampled_from(("a", "b"))
_TAGS: Final = st.sampled_from(("best", "old"))
_COPIES: Final = st.sampled_from(("a", "c", "d"))
_WHICH: Final = st.integers(0, 9)  # see `_Model.number`
_SAMPLES: Final = st.dictionaries(
    st.sampled_from(_KEYS),
    st.tuples(st.sampled_from(("train", "test")), st.binary(max_size=3)),
    min_size=1,
)
_TROUBLE: Final = st.lists(
    st.builds(
        Fault,
        verb=st.sampled_from(("put", "put", "get", "head")),
        kind=st.sampled_from(("lost", "lost", "unavailable")),
        times=st.integers(1, 2),
        path=st.sampled_from(("/log/", "/tags/", "")),
        skip=st.integers(0, 3),
    ),
    max_size=2,
)


@dataclass(slots=True)
class _Model:
    """What a dataset should be: `versions[n - 1]` is what version n holds, None for the commit that removed the dataset."""

    versions: list[Samples | None] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    tags: dict[str, int] = field(default_factory=dict)

    @property
    def there(self) -> bool:
        return bool(self.versions) and self.versions[-1] is not None

    @property
    def live(self) -> list[int]:
        return [number for number in range(1, len(self.versions) + 1) if number not in self.gone] if self.there else []

    def number(self, which: int) -> int:
        """A version to ask for: mostly one that there is."""
        live = self.live
        return live[which % len(live)] if live and which < 8 else which - 3

    @property
    def newest(self) -> Samples:
        return self.versions[-1] or {} if self.there else {}


class CatalogMachine(RuleBasedStateMachine):
    """Commits, tags, reads, and writers that come second, on a store that loses acknowledgements.

    Override `make_store` to run it on another store: `CatalogMachine.TestCase` is what pytest collects.
    """

    def make_store(self) -> Store:
        """A new, empty store."""
        return open_store(f"memory://catalog-machine-{uuid.uuid4().hex}")

    @initialize()
    def begin(self) -> None:
        self.store = self.make_store()
        self.lake = Lake.init(self.store)
        self.models: dict[str, _Model] = {}

    # ------------------------------------------------------------------ what writers do

    @rule(name=_NAMES, samples=_SAMPLES, trouble=_TROUBLE)
    def write(self, name: str, samples: Samples, trouble: list[Fault]) -> None:
        """A commit of anything."""
        made = self._commit(name, trouble, lambda lake: write_dataset(lake, name, _shards(samples), schema=_SCHEMA))
        if made:
            self._model(name).versions.append(samples)

    @rule(name=_NAMES, mine=_SAMPLES, theirs=_SAMPLES, trouble=_TROUBLE, then=st.sampled_from(("rebase", "refuse", "give up")))
    def overtaken(self, name: str, mine: Samples, theirs: Samples, trouble: list[Fault], then: str) -> None:
        """A writer that has seen an older version than the newest: it is told so, and decides anew."""
        first = True
        model = self._model(name)

        def command(lake: Lake) -> None:
            change = change_to(lake, _shards(mine), schema=_SCHEMA)

            def make(newest: Version | None) -> Change | None:
                nonlocal first
                assert (newest.number if newest else 0) == (len(model.versions) if model.there else 0)
                if first:
                    first = False
                    write_dataset(self.lake, name, _shards(theirs), schema=_SCHEMA)
                    model.versions.append(theirs)
                    return change
                if then == "refuse":
                    raise CommitConflict("somebody came first")
                return None if then == "give up" else change

            try:
                lake.catalog.commit(name, make)
            except CommitConflict:
                assert then == "refuse"

        if self._commit(name, trouble, command, others=1, most=then == "rebase"):
            model.versions.append(mine)

    @rule(name=_NAMES, tag=_TAGS, which=_WHICH, trouble=_TROUBLE)
    def tag(self, name: str, tag: str, which: int, trouble: list[Fault]) -> None:
        """A tag is made, or moved."""
        model = self._model(name)
        number = model.number(which)
        log = self.lake.catalog.tag_log(name, tag)
        before = log.newest()
        lake = self._disturbed(trouble)
        try:
            lake().catalog.tag(name, tag, number)
        except NotFound:
            assert number not in model.live
            return
        except StoreUnavailable:
            if log.newest() == before:
                return
        assert log.newest() == before + 1
        assert number in model.live
        model.tags[tag] = number

    @rule(name=_COPIES, of=_NAMES, which=_WHICH, trouble=_TROUBLE)
    def clone(self, name: str, of: str, which: int, trouble: list[Fault]) -> None:
        """Another dataset begins with a version of this one."""
        model, source = self._model(name), self._model(of)
        number = source.number(which)
        possible = number in source.live and not model.there
        if self._commit(name, trouble, lambda lake: clone(lake, f"{of}@{number}", name), most=possible, refusals=(NotFound, AlreadyExists)):
            model.versions.append(source.versions[number - 1])

    @rule(name=_NAMES, of=_NAMES, trouble=_TROUBLE, how=st.sampled_from(("error", "skip", "replace")))
    def append(self, name: str, of: str, trouble: list[Fault], how: OnConflict) -> None:
        """The samples of one dataset come to those of another."""
        model, source = self._model(name), self._model(of)
        mine, theirs = model.newest, source.newest
        conflicts = any(mine[key] != theirs[key] for key in mine.keys() & theirs.keys())
        result = {**theirs, **mine} if how == "skip" else {**mine, **theirs}
        possible = source.there and not (conflicts and how == "error") and (result != mine or not model.there)
        if self._commit(
            name, trouble, lambda lake: append(lake, name, of, on_conflict=how), most=possible, refusals=(NotFound, AlreadyExists)
        ):
            model.versions.append(result)

    @rule(name=_NAMES, keys=st.sets(st.sampled_from(_KEYS)), trouble=_TROUBLE)
    def where(self, name: str, keys: set[str], trouble: list[Fault]) -> None:
        """Some samples go into a view of the dataset, which takes the place of an earlier one."""
        view, source = self._model(f"{name}-some"), self._model(name)
        found = {key: sample for key, sample in source.newest.items() if key in keys}
        made = self._commit(
            f"{name}-some",
            trouble,
            lambda lake: where(lake, name, keys=sorted(keys), to=f"{name}-some"),
            most=bool(found),
            least=bool(found) and found != view.newest,
            refusals=(NotFound, InvalidArgument),
        )
        if made:
            view.versions.append(found)

    # ------------------------------------------------------------------ what is gone

    @rule(name=_NAMES, which=_WHICH, trouble=_TROUBLE, all_of_it=st.sampled_from((False, False, False, True)))
    def remove(self, name: str, which: int, trouble: list[Fault], all_of_it: bool) -> None:
        """A version goes, unless it is the newest or a tag names it; or the dataset goes, and is counted on when it comes back."""
        model = self._model(name)
        number = model.number(which)
        possible = model.there if all_of_it else number in set(model.live[:-1]) - set(model.tags.values())
        spec = name if all_of_it else f"{name}@{number}"
        if self._commit(name, trouble, lambda lake: rm(lake, spec), most=possible, refusals=(NotFound, InvalidArgument)):
            model.versions.append(None if all_of_it else model.newest)
            model.gone |= set(range(1, len(model.versions) + 1)) if all_of_it else {number}

    @rule(name=_NAMES, keep=st.integers(1, 3), trouble=_TROUBLE)
    def expire(self, name: str, keep: int, trouble: list[Fault]) -> None:
        """All but some versions go, and those that tags name. Which is the command's to say, within that; the newest stays."""
        model = self._model(name)
        said: list[int] = []

        def command(lake: Lake) -> None:
            said.extend(expire(lake, name, keep_last=keep).expired)

        may = set(model.live[:-1]) - set(model.tags.values())
        if self._commit(name, trouble, command, most=bool(may), least=False, refusals=(NotFound,)):
            model.versions.append(model.newest)
            now = set(self.lake.catalog.numbers(name))
            gone = set(model.live) - now
            assert gone <= may
            assert len(now) > min(keep, len(model.live) - 1)
            assert not said or set(said) == gone
            model.gone |= gone

    @rule(grace=st.just(0))
    def collect(self, grace: int) -> None:
        """What nothing names any more is deleted: nobody notices."""
        gc(Lake(self.store), grace_seconds=grace)

    # ------------------------------------------------------------------ what readers see

    @rule(name=_NAMES, which=_WHICH)
    def read(self, name: str, which: int) -> None:
        """Any version, by a reader that has just come."""
        model = self._model(name)
        number = model.number(which)
        if number in model.live:
            assert self._read(f"{name}@{number}") == model.versions[number - 1]
        else:
            self._is_missing(f"{name}@{number}")

    @rule(name=_NAMES, tag=_TAGS)
    def read_tag(self, name: str, tag: str) -> None:
        """What a tag means now."""
        model = self._model(name)
        number = model.tags.get(tag)
        if number in model.live:
            assert self._read(f"{name}@{tag}") == model.versions[number - 1]
        else:
            self._is_missing(f"{name}@{tag}")

    @invariant()
    def the_catalog_says_so(self) -> None:
        """Names, numbers, tags and counts, for one that has had the lake open and for one that opens it now."""
        for lake in (self.lake, Lake(self.store)):
            assert lake.datasets() == sorted(name for name, model in self.models.items() if model.there)
            for name, model in self.models.items():
                if not model.there:
                    self._is_missing(name)
                    continue
                newest = lake.catalog.version(name)
                assert (newest.number, newest.samples) == (len(model.versions), len(model.newest))
                assert lake.catalog.numbers(name) == model.live
                assert lake.catalog.tags(name) == sorted(model.tags)

    def teardown(self) -> None:
        """All of it, and nothing damaged."""
        if not hasattr(self, "lake"):
            return
        for name, model in self.models.items():
            for number in model.live:
                assert self._read(f"{name}@{number}") == model.versions[number - 1]
        assert verify_lake(self.lake).problems == []

    # ------------------------------------------------------------------ inside

    def _model(self, name: str) -> _Model:
        return self.models.setdefault(name, _Model())

    def _disturbed(self, trouble: list[Fault]) -> Callable[[], Lake]:
        return lambda: Lake(FaultStore(self.store, trouble))

    def _commit(
        self,
        name: str,
        trouble: list[Fault],
        command: Callable[[Lake], Any],
        *,
        others: int = 0,
        most: bool = True,
        least: bool | None = None,
        refusals: tuple[type[DataplaneError], ...] = (),
    ) -> bool:
        """Whether the command made its one commit, as it should: at `most` and at `least` (the same, unless given) one. Where it need not
        make one, it may refuse. Of one that failed the log says so: it may have been carried out all the same."""
        log = self.lake.catalog.log(name)
        before = len(self._model(name).versions)
        assert log.newest() == before
        try:
            command(self._disturbed(trouble)())
        except StoreUnavailable:
            made = log.newest() - len(self._model(name).versions)
            assert 0 <= made <= most
        except refusals:
            made = log.newest() - before
            assert not made
            assert not (most if least is None else least)
        else:
            made = log.newest() - before - others
            assert (most if least is None else least) <= made <= most
        return bool(made)

    def _read(self, spec: str) -> Samples:
        dataset = Lake(self.store).dataset(spec)
        return {sample.key: (split, bytes(sample.fields["txt"])) for split in dataset.splits for sample in dataset[split]}

    def _is_missing(self, spec: str) -> None:
        try:
            Lake(self.store).dataset(spec)
        except NotFound:
            return
        raise AssertionError(f"{spec} should not be there")


def _shards(samples: Samples) -> list[tuple[str, list[Made]]]:
    """One shard a split."""
    return [
        (name, [Made(key, {"txt": data}) for key, (split, data) in sorted(samples.items()) if split == name])
        for name in sorted({split for split, _ in samples.values()})
    ]
