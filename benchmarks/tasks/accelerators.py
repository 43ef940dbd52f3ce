"""How many emulated accelerators one process keeps busy: the rule of MLPerf Storage for ResNet50 on an H100.

An accelerator takes a batch of 400 samples of 114,660 bytes and computes for 0.224 s. All of a process's take one in every step, then
all compute; the process sleeps meanwhile, and whatever loads goes on loading. They are fed as long as at least 90 % of the time is
computing. As the rule has it, bytes are read and not decoded. Otherwise than in MLPerf, the samples may be in the page cache: it is loaders
that are compared, not disks.

Samples are numbered, and their bytes follow from their number, so the verification knows each.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import staged, write_tar
from benchmarks.environments import LITDATA, MOSAIC
from benchmarks.peers.protocol import VerificationFailed
from benchmarks.tasks import Contender, Prepared, Request, Target, Task

SAMPLE_BYTES = 114_660
BATCH = 400
STEP_SECONDS = 0.224
UTILISATION = 0.9
MOST = 40
NUMBER_BYTES = 8
FILES_A_FOLDER = 1000
SHARDS = 16
_NOISE = np.random.default_rng(0).integers(256, size=4 * SAMPLE_BYTES, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Job:
    """`tree` and `tars` hold the same `samples`, a whole number of batches; `scratch` is for what a contender makes of them."""

    threads: int
    batch: int
    seed: int
    samples: int
    tree: str
    tars: list[str]
    scratch: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**value)

    @property
    def files(self) -> list[str]:
        """The paths of the samples, in the order of their numbers."""
        return sorted(str(path) for path in Path(self.tree).rglob("*.bin"))


def sample(number: int) -> bytes:
    """Its number, and noise that begins somewhere else for each."""
    start = number * 7919 % (len(_NOISE) - SAMPLE_BYTES)
    return number.to_bytes(NUMBER_BYTES, "little") + _NOISE[start : start + SAMPLE_BYTES - NUMBER_BYTES].tobytes()


def check_batch(batch: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers of a batch's samples, whose bytes are all right: `batch` is uint8 [B, 114660] in one piece of memory."""
    if batch.ndim != 2 or batch.shape[1] != SAMPLE_BYTES or batch.dtype != np.uint8 or not batch.flags.c_contiguous:
        raise VerificationFailed(f"a batch is {batch.dtype} {batch.shape}, not uint8 (B, {SAMPLE_BYTES}) in one piece")
    numbers = np.ascontiguousarray(batch[:, :NUMBER_BYTES]).view("<i8").reshape(-1)
    for number, found in zip(numbers.tolist(), batch, strict=True):
        if number < 0 or found.tobytes() != sample(number):
            raise VerificationFailed(f"sample {number} does not have its bytes")
    return numbers.astype(np.int64)


def prepare(request: Request) -> Prepared:
    """The samples as files and as tars, made once, in the cache."""
    samples = -(-request.samples // BATCH) * BATCH
    folder = request.cache / f"accelerators-{samples}"
    request.cache.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with staged(folder) as staging:
            _lay_out(staging, samples)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    tars = [str(path.resolve()) for path in sorted((folder / "tars").glob("*.tar"))]
    job = Job(request.threads, BATCH, 0, samples, str((folder / "tree").resolve()), tars, str(scratch.resolve()))
    return Prepared(job=asdict(job), data={"samples": samples, "mean_bytes": SAMPLE_BYTES, "step_seconds": STEP_SECONDS})


def _lay_out(folder: Path, samples: int) -> None:
    (folder / "tars").mkdir()
    for shard, numbers in enumerate(np.array_split(np.arange(samples), SHARDS)):
        members = [(f"{number:08d}.bin", sample(number)) for number in numbers.tolist()]
        write_tar(folder / "tars" / f"shard-{shard:05d}.tar", members)
        for (name, data), number in zip(members, numbers.tolist(), strict=True):
            path = folder / "tree" / f"{number // FILES_A_FOLDER:05d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


UNIT = "accelerators"

TASK = Task(
    name="accelerators",
    summary=f"emulated H100s fed by one process: batches of {BATCH} × {SAMPLE_BYTES:,} bytes, {STEP_SECONDS} s a step, at least 90 % busy",
    contenders=(
        Contender("dataplane", "benchmarks.peers.accelerators.dataplane", "Loader with Bytes()", UNIT, "ours"),
        Contender("torch", "benchmarks.peers.accelerators.torch", "DataLoader over files", UNIT, "peer"),
        Contender("webdataset", "benchmarks.peers.accelerators.webdataset", "WebLoader over tars", UNIT, "peer"),
        Contender("mosaic", "benchmarks.peers.accelerators.mosaic", "mosaicml-streaming in a DataLoader", UNIT, "peer", MOSAIC),
        Contender("litdata", "benchmarks.peers.accelerators.litdata", "StreamingDataLoader", UNIT, "peer", LITDATA),
        Contender("control", "benchmarks.peers.accelerators.control", "no input at all: what the emulation can tell", UNIT, "bound"),
    ),
    prepare=prepare,
    samples=MOST * BATCH,
    quick=4 * BATCH,
    targets=(Target(("torch", "webdataset", "mosaic", "litdata"), 1.01),),
)
