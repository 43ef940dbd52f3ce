"""litdata, with its scratch folders below the job's: it empties its default ones, in the temporary folder, when it starts."""

import importlib
import os
from pathlib import Path
from typing import Any


def import_litdata(scratch: Path) -> Any:
    """The package. To be called before anything else imports it, with a folder that nobody else uses."""
    for name in ("DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER"):
        os.environ[name] = str(scratch / name.lower())
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"
    return importlib.import_module("litdata")
