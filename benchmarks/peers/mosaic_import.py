"""mosaicml-streaming as `streaming`, without torchvision and transformers.

It imports both for its loaders of pictures and texts, and to tell batches apart in its own DataLoader; nothing here uses these. Its
release also wants older ones than the project's other packages allow. So the two are declared here and left without a body: the code that
is measured is its own. Where torchvision is installed, it is imported as the torch contender does, and not declared.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from typing import Any

DECLARED = tuple(name for name in ("torchvision", "transformers") if importlib.util.find_spec(name) is None)
if "torchvision" not in DECLARED:
    importlib.import_module("benchmarks.peers.torchvision_transform")


class _Declared(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in DECLARED else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Declared(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.insert(0, _Finder())

import streaming as _streaming  # noqa: E402

streaming: Any = _streaming
