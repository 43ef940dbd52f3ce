"""A limit: `cp -r` of the tree, then one sync of the file system that holds the copy."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.protocol import serve
from benchmarks.peers.write.writing import opener
from benchmarks.tasks.write import Job


class Copy:
    packages = ()
    syncs = True

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = "cp -r in one process, then `sync -f` of the copy (syncfs)"

    def write(self, out: Path) -> None:
        copy(self.job, out)
        subprocess.run(["sync", "-f", str(out)], check=True)

    def read(self, out: Path) -> Iterator[bytes]:
        return (path.read_bytes() for path in out.rglob("*.jpg"))


def copy(job: Job, out: Path) -> None:
    """`cp -r`."""
    subprocess.run(["cp", "-r", job.tree, str(out / "copy")], check=True)


if __name__ == "__main__":
    serve(opener(Copy))
