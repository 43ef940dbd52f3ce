"""A limit: `cp -r` of the tree, then fsync of every file and folder of the copy."""

from pathlib import Path

from benchmarks.peers.protocol import serve
from benchmarks.peers.write.cp import Copy, copy
from benchmarks.peers.write.writing import opener
from benchmarks.tasks.write import Job


class CopyAndFsync(Copy):
    syncs = False

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.setup = "cp -r in one process"

    def write(self, out: Path) -> None:
        copy(self.job, out)


if __name__ == "__main__":
    serve(opener(CopyAndFsync))
