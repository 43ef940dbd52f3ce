"""`python -m train CONFIG.toml` is `dataplane train`, in a form for torchrun: `torchrun --nproc-per-node 8 -m train CONFIG.toml`."""

from __future__ import annotations

import logging
import os
import sys

import typer

from dataplane.errors import DataplaneError
from dataplane.output import ending, err, exit_code
from train.commands import train

__all__ = ["main"]


def main() -> None:
    """Run the command; only rank 0 prints, but for errors."""
    rank = int(os.environ.get("RANK", "0"))
    if rank:
        logging.getLogger("dataplane").setLevel(logging.ERROR)
    with ending(as_json=not rank and "--json" in sys.argv):
        try:
            typer.run(train)
        except DataplaneError as error:
            if not rank:
                raise
            err.print(f"rank {rank}: {error}", markup=False, style="red")
            sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
