"""What commands that bring data in say of bad sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dataplane.ingest.options import Bad
from dataplane.output import out

__all__ = ["print_bad"]

_BAD_SHOWN: Final = 20


def print_bad(bad: Sequence[Bad], *, what: str, rest: str) -> None:
    """The first bad sources and why; `what` they are, in words behind their number, and `rest` says how to see the others."""
    if not bad:
        return
    out.print(f"[yellow]{len(bad):,} bad{what}[/]:")
    for item in bad[:_BAD_SHOWN]:
        out.print(f"  {_one_line(item.source)}: {_one_line(item.reason)}", markup=False)
    if len(bad) > _BAD_SHOWN:
        out.print(f"  … and {len(bad) - _BAD_SHOWN:,} more; {rest}", markup=False)


def _one_line(text: str) -> str:
    """`text` without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
