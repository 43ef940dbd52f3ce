"""mosaicml-streaming takes a state far into an epoch: an index of very many shards, no samples.

It keeps an object a shard and permutes all samples of an epoch, so memory and time grow with both. 10⁷ samples are what it is asked for:
10⁹ are a hundred times that, beyond the memory of this machine.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.limits import answer
from benchmarks.peers.mosaic_import import streaming
from benchmarks.probes.peers import measured
from benchmarks.tasks.shards import SAMPLES_A_SHARD

SAMPLES = 10_000_000


def probe(job: dict[str, Any]) -> dict[str, Any]:
    samples = min(SAMPLES, job["samples"])
    folder = Path(job["scratch"]) / "mosaic"
    _write_index(folder, samples)
    streaming.base.util.clean_stale_shared_memory()
    at = round(job["position"] / job["samples"] * samples) // job["batch"] * job["batch"]

    def resume() -> int:
        dataset = streaming.StreamingDataset(
            remote=str(folder), local=str(folder / "local"), shuffle=True, shuffle_seed=0, batch_size=job["batch"]
        )
        state = {"epoch": 0, "sample_in_epoch": at, "num_canonical_nodes": 1, "shuffle_seed": 0, "initial_physical_nodes": 1}
        dataset.load_state_dict(state)
        dataset._unique_worker_world = dataset._unique_rank_world.detect_workers()
        dataset._parallel_worker_world = dataset._parallel_rank_world.detect_workers()
        return len(dataset._get_work(*dataset._resume_incr_epoch())[: job["batch"]])  # as its `__iter__` begins

    return measured(samples, resume)


def _write_index(folder: Path, samples: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    size = SAMPLES_A_SHARD * 110_000
    shards = [
        {
            "column_encodings": ["bytes"],
            "column_names": ["jpg"],
            "column_sizes": [None],
            "compression": None,
            "format": "mds",
            "hashes": [],
            "raw_data": {"basename": f"shard.{number:07d}.mds", "bytes": size, "hashes": {}},
            "samples": SAMPLES_A_SHARD,
            "size_limit": size,
            "version": 2,
            "zip_data": None,
        }
        for number in range(samples // SAMPLES_A_SHARD)
    ]
    (folder / "index.json").write_text(json.dumps({"shards": shards, "version": 2}), encoding="utf-8")


if __name__ == "__main__":
    answer(probe)
