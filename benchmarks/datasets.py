"""One set of photographs in every layout that a contender reads, so that all of them read the same bytes.

A data set is a list of source photographs, repeated under different names until there are enough samples. A sample's label is the number
of its source: over an epoch, every contender must deliver each source exactly as often as it was repeated, which is how lost, doubled and
mislabelled samples are noticed. Layouts: a folder for each label (ImageFolder, and what `dataplane ingest` reads), WebDataset tars in a
seeded order, and DALI's index of each tar.

Layouts are built once, in a cache folder keyed by everything that shapes them, and moved into place complete.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from benchmarks.photographs import write_photographs

LAYOUT_VERSION = 1
MADE_PHOTOGRAPHS = 256
SHARDS_A_THREAD = 4
SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Excluded:
    """A file of the user's folder that does not take part, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where each layout lies. `repeats[i]` is how many samples source `i`, whose label is `i`, became."""

    folder: Path
    origin: str
    repeats: tuple[int, ...]
    sources: tuple[Path, ...]
    tars: tuple[Path, ...]
    indexes: tuple[Path, ...]
    excluded: tuple[Excluded, ...]
    mean_bytes: int

    @property
    def samples(self) -> int:
        return sum(self.repeats)

    @property
    def tree(self) -> Path:
        return self.folder / "tree"


class NoPhotographs(ValueError):
    """The folder holds nothing to measure with."""


def make_inputs(data: Path | None, *, cache: Path, samples: int, threads: int) -> Inputs:
    """All layouts of the photographs under `data`, or of made ones when it is None; at least `samples` samples in `cache`.

    Files that are not 8-bit grey or RGB JPEGs are left out and listed, since contenders differ in what they make of them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    origin = "made from scikit-learn's sample photographs" if data is None else data.resolve().name
    candidates = _made(cache) if data is None else sorted(p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    sources, excluded = _usable(_spread(candidates, at_most=samples))
    if not sources:
        raise NoPhotographs(
            f"no photographs in {origin}: got {len(candidates)} files named {' or '.join(SUFFIXES)}, {len(excluded)} of them unusable;"
            " 8-bit grey and RGB JPEG files are needed: name another folder, or none to have photographs made"
        )
    shards = threads * SHARDS_A_THREAD
    folder = cache / _fingerprint(sources, samples=samples, shards=shards)
    if not folder.exists():
        _build(folder, sources, samples=samples, shards=shards)
    return _open(folder, origin=origin, excluded=excluded)


def described(inputs: Inputs) -> dict[str, Any]:
    """What a run's document says of its inputs."""
    return {
        "origin": inputs.origin,
        "photographs": len(inputs.sources),
        "samples": inputs.samples,
        "mean_bytes": inputs.mean_bytes,
        "excluded": [asdict(item) for item in inputs.excluded],
    }


def repeats_of(sources: int, *, samples: int) -> tuple[int, ...]:
    """How often each source is repeated to make `samples`: as evenly as it goes.

    >>> repeats_of(3, samples=8)
    (3, 3, 2)
    """
    return tuple(samples // sources + (i < samples % sources) for i in range(sources))


def label_name(label: int) -> str:
    """A label as text of one width, so that names sort like numbers and every `cls` member has the same size."""
    return f"{label:06d}"


def index_lines(tar: Path) -> Iterator[str]:
    """DALI's index of a WebDataset tar, as its own `wds2idx` writes it: for each sample, each member's extension, offset, size and name."""
    with tarfile.open(tar) as archive:
        bundles: dict[str, list[str]] = {}
        for member in archive:
            stem, _, extension = member.name.partition(".")
            bundles.setdefault(stem, []).append(f"{extension} {member.offset_data} {member.size} {member.name}")
    yield f"v1.2 {len(bundles)}"
    for members in bundles.values():
        yield " ".join(members)


def _usable(candidates: list[Path]) -> tuple[list[Path], tuple[Excluded, ...]]:
    reasons = {path: _unusable(path) for path in candidates}
    excluded = tuple(Excluded(str(path), reason) for path, reason in reasons.items() if reason is not None)
    return [path for path, reason in reasons.items() if reason is None], excluded


def _made(cache: Path) -> list[Path]:
    folder = cache / f"made-{LAYOUT_VERSION}"
    if not folder.exists():
        with staged(folder) as staging:
            write_photographs(staging, count=MADE_PHOTOGRAPHS, seed=0)
    return sorted(folder.iterdir())


def _unusable(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            if image.format != "JPEG":
                return f"is {image.format}, not JPEG"
            if image.mode not in {"RGB", "L"}:
                return f"its mode is {image.mode}, not RGB or L"
            if image.getexif().get(ExifTags.Base.Orientation, 1) > 1:
                return "is rotated by its EXIF orientation"
            image.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        return str(error)
    return None


def _spread(found: list[Path], *, at_most: int) -> list[Path]:
    """Evenly spaced through the list, so that a folder sorted by class is represented whole."""
    if len(found) <= at_most:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, at_most).round().astype(int)]


def _fingerprint(sources: list[Path], *, samples: int, shards: int) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sources:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    digest.update(f"{samples} {shards} {LAYOUT_VERSION}".encode())
    return f"photographs-{digest.hexdigest()}"


def _build(folder: Path, sources: list[Path], *, samples: int, shards: int) -> None:
    with staged(folder) as staging:
        (staging / "sources").mkdir()
        kept = [Path(shutil.copyfile(path, staging / "sources" / f"{label_name(i)}.jpg")) for i, path in enumerate(sources)]
        repeats = repeats_of(len(kept), samples=samples)
        _write_tree(staging / "tree", kept, repeats)
        _write_tars(staging / "tars", kept, repeats, shards=shards)
        (staging / "inputs.json").write_text(json.dumps({"repeats": repeats}), encoding="utf-8")


def _write_tree(tree: Path, sources: list[Path], repeats: tuple[int, ...]) -> None:
    for label, (source, times) in enumerate(zip(sources, repeats, strict=True)):
        folder = tree / label_name(label)
        folder.mkdir(parents=True)
        for repeat in range(times):
            os.link(source, folder / f"{label_name(label)}_{repeat:05d}.jpg")


def _write_tars(folder: Path, sources: list[Path], repeats: tuple[int, ...], *, shards: int) -> None:
    folder.mkdir()
    samples = [(label, repeat) for label, times in enumerate(repeats) for repeat in range(times)]
    order = np.random.default_rng(0).permutation(len(samples))
    for shard, members in enumerate(np.array_split(order, min(shards, len(samples)))):
        tar = folder / f"shard-{shard:05d}.tar"
        write_tar(tar, _members([samples[i] for i in members], sources))
        tar.with_suffix(".idx").write_text("\n".join(index_lines(tar)) + "\n", encoding="utf-8")


def _members(samples: list[tuple[int, int]], sources: list[Path]) -> Iterator[tuple[str, bytes]]:
    for label, repeat in samples:
        stem = f"{label_name(label)}_{repeat:05d}"
        yield f"{stem}.jpg", sources[label].read_bytes()
        yield f"{stem}.cls", label_name(label).encode()


def write_tar(tar: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A plain tar of these names and contents, in their order."""
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            _add(archive, name, data)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _open(folder: Path, *, origin: str, excluded: tuple[Excluded, ...]) -> Inputs:
    repeats = tuple(json.loads((folder / "inputs.json").read_text(encoding="utf-8"))["repeats"])
    sources = tuple(sorted((folder / "sources").iterdir()))
    sizes = np.array([path.stat().st_size for path in sources])
    return Inputs(
        folder=folder,
        origin=origin,
        repeats=repeats,
        sources=sources,
        tars=tuple(sorted((folder / "tars").glob("*.tar"))),
        indexes=tuple(sorted((folder / "tars").glob("*.idx"))),
        excluded=excluded,
        mean_bytes=round(float(np.average(sizes, weights=repeats))),
    )


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A staging folder that takes its final name when the block succeeds; nothing half-built is ever found under that name."""
    staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        yield staging
        if not folder.exists():
            staging.rename(folder)
    finally:
        if staging.exists():
            shutil.rmtree(staging)
