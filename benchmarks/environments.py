"""A virtual environment for contenders whose needs clash with the project's own.

Such an environment adds a few packages to what the project's interpreter has (a `.pth` file names the project's site-packages, which come
after its own), so that torch and numpy are the same files for every contender and the project's environment stays small. It is built once
and found again by its requirements; nothing is built when the project's interpreter already satisfies them.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COMPLETE = "complete.json"
INSTALL_TIMEOUT_SECONDS = 600


class EnvironmentFailed(RuntimeError):
    """A contender's environment could not be built."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Exact requirements (`name==version`), installed without their own dependencies, which the project's environment has.

    `requirements` is called when a run needs the environment, because a requirement may depend on what is installed. What has no wheel is
    built with the project's own setuptools. `needs` are packages of Debian and Ubuntu that have to be there before.
    """

    name: str
    requirements: Callable[[], tuple[str, ...]]
    needs: tuple[str, ...] = ()


def python_of(environment: Environment | None, *, under: Path) -> Path:
    """The interpreter to run a contender with; builds its environment in `under` if it is not there yet."""
    if environment is None:
        return Path(sys.executable)
    requirements = environment.requirements()
    if all(_installed(requirement) for requirement in requirements):
        return Path(sys.executable)
    folder = under / environment.name
    marker = folder / COMPLETE
    if not marker.exists() or json.loads(marker.read_text(encoding="utf-8")) != list(requirements):
        _build(folder, requirements, environment.needs)
    return _interpreter(folder)


def matching_torchvision(torch_version: str) -> str:
    """The requirement that pairs torchvision with a torch release: torch 2.M came with torchvision 0.(M + 15).

    >>> matching_torchvision("2.13.0+cpu")
    'torchvision==0.28.0'
    """
    _, minor, patch = torch_version.partition("+")[0].split(".")[:3]
    return f"torchvision==0.{int(minor) + 15}.{patch}"


def _torchvision() -> tuple[str, ...]:
    try:
        return (matching_torchvision(importlib.metadata.version("torch")),)
    except importlib.metadata.PackageNotFoundError as error:
        raise EnvironmentFailed("torch is not installed: install the project's `torch` extra") from error


TORCHVISION = Environment("torchvision", _torchvision)
MOSAIC = Environment(
    "mosaic",
    lambda: (
        "mosaicml-streaming==0.13.0",
        "Brotli==1.2.0",
        "catalogue==2.0.10",
        "cramjam==2.11.0",
        "python-snappy==0.7.3",
        "zstd==1.5.7.2",
    ),
)
LITDATA = Environment("litdata", lambda: ("litdata==0.2.76", "lightning-utilities==0.15.2", "tifffile==2025.10.16"))
MOSAIC_TORCHVISION = Environment("mosaic-torchvision", lambda: (*MOSAIC.requirements(), *_torchvision()))
LITDATA_TORCHVISION = Environment("litdata-torchvision", lambda: (*LITDATA.requirements(), *_torchvision()))
SPDL = Environment("spdl", lambda: ("spdl-core==0.8.0", "spdl-io==0.8.0"), needs=("libavdevice59",))
FFCV = Environment(
    "ffcv",
    lambda: (
        "ffcv==1.0.2",
        "assertpy==1.1",
        "fastargs==1.2.0",
        "psutil==7.1.3",
        "pytorch-pfn-extras==0.9.0",
        "terminaltables==3.1.10",
    ),
    needs=("g++", "pkg-config", "libopencv-dev", "libturbojpeg0-dev"),
)


def _installed(requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    try:
        return importlib.metadata.version(name).partition("+")[0] == version
    except importlib.metadata.PackageNotFoundError:
        return False


def _build(folder: Path, requirements: tuple[str, ...], needs: tuple[str, ...]) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    venv.EnvBuilder(symlinks=True).create(folder)
    own = next(folder.glob("lib/python*/site-packages"))
    paths = sysconfig.get_paths()
    (own / "project.pth").write_text("\n".join(dict.fromkeys((paths["purelib"], paths["platlib"]))) + "\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(_interpreter(folder)), "install", "--quiet", "--no-input", "--no-deps"]
    install.append("--no-build-isolation")  # what is built against numpy and torch is built against those that it will meet
    try:
        done = subprocess.run([*install, *requirements], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailed(f"installing {', '.join(requirements)} took more than {INSTALL_TIMEOUT_SECONDS} s") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        before = f"; it needs {' '.join(needs)}, installed before (apt install)" if needs else ""
        raise EnvironmentFailed(f"could not install {', '.join(requirements)}: {lines[-1] if lines else 'pip gave no reason'}{before}")
    marker = folder / COMPLETE
    marker.with_suffix(".new").write_text(json.dumps(list(requirements)), encoding="utf-8")
    os.replace(marker.with_suffix(".new"), marker)


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"
