"""litdata takes a state far into an epoch: an index of very many chunks, no samples.

Its state has the name of every chunk. The places of the next batch are those that its iterator holds before it reads the first sample.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.limits import answer
from benchmarks.peers.litdata_import import import_litdata
from benchmarks.probes.peers import measured
from benchmarks.tasks.shards import SAMPLES_A_SHARD


def probe(job: dict[str, Any]) -> dict[str, Any]:
    scratch = Path(job["scratch"])
    litdata = import_litdata(scratch / "litdata-scratch")
    folder = scratch / "litdata"
    _write_index(folder, job["samples"])

    def dataset() -> Any:
        return litdata.StreamingDataset(str(folder), shuffle=True, seed=0)

    state = dataset().state_dict(job["position"], 1, job["batch"])

    def resume() -> int:
        resumed = dataset()
        resumed.set_batch_size(job["batch"])
        resumed.load_state_dict(json.loads(json.dumps(state)))
        return len(iter(resumed).upcoming_indexes)

    answered = measured(job["samples"], resume)
    return {**answered, "notes": {"state_bytes": len(json.dumps(state))}}


def _write_index(folder: Path, samples: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    size = SAMPLES_A_SHARD * 110_000
    chunks = [
        {"chunk_bytes": size, "chunk_size": SAMPLES_A_SHARD, "dim": None, "filename": f"chunk-0-{number}.bin"}
        for number in range(samples // SAMPLES_A_SHARD)
    ]
    config = {
        "chunk_bytes": size,
        "chunk_size": None,
        "compression": None,
        "data_format": ["bytes"],
        "data_spec": '[1, {"type": null, "context": null, "children_spec": []}]',
        "encryption": None,
        "item_loader": "PyTreeLoader",
    }
    (folder / "index.json").write_text(json.dumps({"chunks": chunks, "config": config}), encoding="utf-8")


if __name__ == "__main__":
    answer(probe)
