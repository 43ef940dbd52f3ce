"""The first batch of the JPEG task from a cold S3 store: everything opened anew, nothing on the local disk.

The server is nginx on this machine, 80 MB/s for each connection, as S3 gives; it adds no latency, which S3 does. Libraries are imported and
compiled code is loaded before the clock starts: that is the business of a program's start, which this project shares with all others.
Peers without worker processes: those take longer to start than the batch does.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import LITDATA_TORCHVISION, MOSAIC_TORCHVISION, TORCHVISION
from benchmarks.servers import nginx
from benchmarks.tasks import Contender, Prepared, Request, Target, Task, jpeg

BUCKET = "bucket"
A_CONNECTION = "80m"


@dataclass(frozen=True, slots=True)
class Job:
    """`folder` is the bucket on the disk, in which each contender lays out its own form of the photographs; `cache` is for local copies."""

    batch: int
    endpoint: str
    folder: str
    cache: str
    photographs: jpeg.Job

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**{**value, "photographs": jpeg.Job.from_json(value["photographs"])})

    @property
    def options(self) -> dict[str, str]:
        """obstore's configuration of the bucket."""
        return {"endpoint": self.endpoint, "region": "us-east-1", "skip_signature": "true", "virtual_hosted_style_request": "false"}

    @property
    def environment(self) -> dict[str, str]:
        """What clients that sign need; the server looks at no signature."""
        return {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nobody",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def prepare(request: Request) -> Prepared:
    photographs = jpeg.prepare(request)
    parsed = jpeg.Job.from_json(photographs.job)
    root = Path(parsed.scratch) / "start"
    for name in (BUCKET, "cache"):
        (root / name).mkdir(parents=True, exist_ok=True)
    stack = ExitStack()
    locations = f"location / {{ limit_rate {A_CONNECTION}; }}"
    endpoint = stack.enter_context(nginx(root, Path(parsed.scratch) / "nginx-start", locations=locations))
    job = Job(parsed.batch, endpoint, str(root / BUCKET), str(root / "cache"), parsed)
    data = {**photographs.data, "server": f"nginx, {A_CONNECTION}B/s for each connection"}
    return Prepared(job=asdict(job), data=data, close=stack.close)


UNIT = "first batches/s"

TASK = Task(
    name="start",
    summary="the first batch of the jpeg task from a cold S3 store, empty cache",
    contenders=(
        Contender("dataplane", "benchmarks.peers.start.dataplane", "Lake, Loader, no hot tier", UNIT, "ours"),
        Contender("hot", "benchmarks.peers.start.hot", "the same through an empty hot tier", UNIT, "ours"),
        Contender("webdataset", "benchmarks.peers.start.webdataset", "pipe:curl, in process", UNIT, "peer", TORCHVISION),
        Contender("mosaic", "benchmarks.peers.start.mosaic", "mosaicml-streaming, in process", UNIT, "peer", MOSAIC_TORCHVISION),
        Contender("litdata", "benchmarks.peers.start.litdata", "litdata, in process", UNIT, "peer", LITDATA_TORCHVISION),
    ),
    prepare=prepare,
    samples=4096,
    each=True,
    targets=(Target(("webdataset", "mosaic", "litdata"), 2.0),),
)
