"""What may be imported from where is pinned: a change here is a change for users, and belongs in the changelog."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

PACKAGES = ("dataplane", "tiering", "loaders", "train", "serve")

EXPORTS = {
    "dataplane": ["Dataset", "Lake", "Sample", "Split", "WriteOptions", "open_store", "write"],
    "dataplane.adopt": ["AdoptOptions", "AdoptResult", "adopt"],
    "dataplane.checkpoint": [
        "Checkpoint",
        "Checkpoints",
        "Evaluation",
        "Model",
        "Progress",
        "Restored",
        "Trained",
        "open_model",
        "publish",
    ],
    "dataplane.errors": [
        "AlreadyExists",
        "BadSample",
        "BadSamples",
        "BadSources",
        "CommitConflict",
        "CorruptObject",
        "DataplaneError",
        "FormatTooNew",
        "InvalidArgument",
        "MissingExtra",
        "NotALake",
        "NotFound",
        "PermissionDenied",
        "SourceChanged",
        "StateMismatch",
        "StorageFull",
        "StoreError",
        "StoreUnavailable",
        "redact",
    ],
    "dataplane.ingest": ["Bad", "IngestOptions", "IngestResult", "ingest"],
    "dataplane.materialize": ["MaterializeOptions", "MaterializeResult", "materialize"],
    "dataplane.upkeep": [
        "ExpireResult",
        "GcReport",
        "Problem",
        "Report",
        "Usage",
        "UsageReport",
        "expire",
        "gc",
        "rm",
        "usage",
        "verify_lake",
    ],
    "dataplane.versions": [
        "Ancestor",
        "AppendResult",
        "CloneResult",
        "DiffResult",
        "SchemaDiff",
        "SplitResult",
        "TagResult",
        "WhereResult",
        "append",
        "clone",
        "diff",
        "lineage",
        "split",
        "tag",
        "tags",
        "where",
    ],
    "dataplane.stats": ["Glimpse", "Statistics", "head", "statistics"],
    "dataplane.store": [
        "Draft",
        "Drafts",
        "LocalPath",
        "Offer",
        "ReadInto",
        "ReadMatching",
        "Reject",
        "Store",
        "Upload",
        "Uploads",
        "WrapperStore",
        "open_store",
        "split_url",
    ],
    "dataplane.testing": [
        "Call",
        "CatalogMachine",
        "CrashStore",
        "Crashed",
        "Fault",
        "FaultStore",
        "FormatTests",
        "LatencyStore",
        "Point",
        "RecordingStore",
        "StoreTests",
        "Tried",
        "crash_points",
        "fault_points",
        "sigkill",
    ],
    "loaders": [
        "Batch",
        "Bytes",
        "CenterCrop",
        "ColorJitter",
        "CutMix",
        "Grayscale",
        "HorizontalFlip",
        "Int64",
        "Limits",
        "Loader",
        "Map",
        "Mix",
        "MixUp",
        "Mixture",
        "Normalize",
        "Packed",
        "Ragged",
        "RandAugment",
        "RandomAffine",
        "RandomCrop",
        "RandomErasing",
        "RandomGrayscale",
        "RandomResizedCrop",
        "RandomRotation",
        "Resize",
        "ToFloat",
        "ToLayout",
        "VerticalFlip",
    ],
    "loaders.tokens": ["Packed"],
    "loaders.torch": ["TensorBatch", "TorchLoader"],
    "tiering": ["Hot", "HotStats", "HotStore"],
}


def modules():
    for package in PACKAGES:
        root = importlib.import_module(package)
        yield package
        yield from (info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.") if not info.name.endswith("__main__"))


@pytest.mark.parametrize("package", EXPORTS)
def test_exports_are_pinned(package):
    module = importlib.import_module(package)
    assert module.__all__ == EXPORTS[package]
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


@pytest.mark.parametrize("name", sorted(modules()))
def test_what_a_module_exports_it_has(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    for each in exported:
        assert hasattr(module, each), f"{name}.{each}"


LIGHT = """
import sys, threading
before = threading.active_count()
import dataplane, dataplane.cli
dataplane.cli.build()
heavy = {"torch", "nvidia", "cv2", "numba", "simplejpeg", "fastapi", "sklearn", "scipy", "webdataset", "PIL.Image"} & set(sys.modules)
assert not heavy, f"the command line loads {sorted(heavy)}"
assert threading.active_count() == before
"""


def test_the_command_line_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


QUIET = """
import sys, threading
before = threading.active_count()
import dataplane, tiering, loaders, train, serve
from loaders import *
assert "torch" not in sys.modules and "nvidia" not in sys.modules
assert threading.active_count() == before
numba = sys.modules.get("numba")
if numba:
    from numba.np.ufunc import parallel
    assert not parallel._is_initialized
"""


def test_importing_starts_nothing():
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
