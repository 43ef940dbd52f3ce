"""What commands that bring data in say of bad sources, and of what was done to the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dataplane.ingest.options import Bad, Pictures
from dataplane.output import human_bytes, out

__all__ = ["of_pictures", "print_bad"]

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


def of_pictures(done: Pictures) -> Iterator[str]:
    """What was done to pictures, in words."""
    did = [f"{count:,} {what}" for count, what in ((done.indexed, "indexed"), (done.encoded, "encoded anew")) if count]
    if did:
        share = done.bytes_after / done.bytes_before - 1
        sizes = f"{human_bytes(done.bytes_before)} became {human_bytes(done.bytes_after)} ({share:+.1%})"
        yield f"JPEGs: {', '.join(did)}; {sizes}"
    if done.left:
        reasons = sorted(done.left.items(), key=lambda item: (-item[1], item[0]))
        yield f"stored as they are: {', '.join(f'{count:,} ({why})' for why, count in reasons)}"


def _one_line(text: str) -> str:
    """`text` without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
