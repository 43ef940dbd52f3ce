"""Resume at nine tenths of an epoch of 10⁹ samples: from a state in JSON to the plan of the next batch.

The version is made as in `benchmarks.tasks.shards`, with all samples in one split; there are no samples, so no batch is read. What is timed
begins with the open version: a Loader is made, takes the state, and the shards and items of the next batch are found.

Peers are beside it at the size that they can hold: see their probes. Each tells the time from the open data set and the state to the next
batch's places, and what memory that took, beyond what its imports had.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.datasets import staged
from benchmarks.environments import LITDATA, MOSAIC
from benchmarks.tasks import Contender, Limit, LimitTask, Prepared, Request
from benchmarks.tasks.shards import LAYOUT_VERSION, SAMPLES_A_SHARD, make_version
from dataplane import Lake

POSITION = 0.9
BATCH = 256


@dataclass(frozen=True, slots=True)
class Job:
    """The lake with the version, of which `position` samples were delivered; `scratch` is for the peers' indexes."""

    lake: str
    samples: int
    position: int
    batch: int
    scratch: str


def prepare(request: Request) -> Prepared:
    """Make the version once, in the cache."""
    shards = max(1, request.samples // SAMPLES_A_SHARD)
    folder = request.cache / f"resume-{shards}-{LAYOUT_VERSION}"
    request.cache.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with staged(folder) as staging:
            make_version(Lake.init(str(staging / "lake")), shards, train=1.0)
    samples = shards * SAMPLES_A_SHARD
    scratch = Path(folder / "peers").resolve()
    scratch.mkdir(exist_ok=True)
    position = round(samples * POSITION) // BATCH * BATCH
    job = Job(str((folder / "lake").resolve()), samples, position, BATCH, str(scratch))
    return Prepared(job=asdict(job), data={"shards": shards, "samples": samples, "position": position})


TASK = LimitTask(
    name="resume",
    summary="resume at position 9·10⁸ of 10⁹",
    module="benchmarks.probes.resume",
    limits=(
        Limit("resume", "ms", 100.0, "a Loader made, its state loaded, shards and items of the next batch found; the version is open"),
        Limit("references", "ms", None, "then, where these shards lie: rows of the manifest, which any start reads"),
        Limit("memory", "MB", 200.0, "what the version, the Loader and the plan added to the process at its peak"),
        Limit("state", "bytes", None, "of the state as JSON"),
        Limit("opened", "s", None, "the version opened before"),
        Limit("whole process", "MB", None, "at its peak, with Python and all that it has imported"),
    ),
    prepare=prepare,
    samples=1_000_000_000,
    quick=2_000_000,
    beside=(
        Contender("mosaic", "benchmarks.probes.resume_mosaic", "mosaicml-streaming, StreamingDataset", "", "peer", MOSAIC),
        Contender("litdata", "benchmarks.probes.resume_litdata", "litdata, StreamingDataset", "", "peer", LITDATA),
    ),
)
