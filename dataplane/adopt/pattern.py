"""Patterns of sources: `{000..999}` and `{a,b}` name many things, `*`, `**`, `?` and `[…]` match them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dataplane.errors import InvalidArgument

__all__ = ["Pattern", "expand", "parse"]

_LARGEST: Final = 1_000_000
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?\Z|([A-Za-z])\.\.([A-Za-z])\Z")
_MAGIC: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern split where its first wildcard's folder ends: `folder` is plain, and paths below it match `regex` or do not. Without a
    wildcard `regex` is None and `name` is the last segment."""

    folder: str
    name: str
    regex: re.Pattern[str] | None


def expand(text: str) -> list[str]:
    """What the braces in `text` stand for, in order: `{8..10}` counts, `{08..10}` with as many digits, `{a,b}` is each. Nested ones may
    be. Braces that are no such pattern stand for themselves. Raises `InvalidArgument` for more than a million names."""
    done: list[str] = []
    waiting = [("", text)]
    while waiting:
        before, rest = waiting.pop()
        found = _first_brace(rest)
        if found is None:
            done.append(before + rest)
        else:
            start, end, choices = found
            if len(done) + len(waiting) + len(choices) > _LARGEST:
                raise InvalidArgument(f"{text!r} names more than {_LARGEST:,} things; use a wildcard instead: *, ** or ?")
            if len(choices) == 1 and choices[0] == rest[start:end]:
                waiting.append((before + rest[:end], rest[end:]))
            else:
                waiting += [(before + rest[:start], choice + rest[end:]) for choice in reversed(choices)]
    return done


def _first_brace(text: str) -> tuple[int, int, list[str]] | None:
    start = text.find("{")
    if start < 0:
        return None
    depth, commas = 0, [start]
    for i in range(start, len(text)):
        if text[i] == "{":
            depth += 1
        elif text[i] == "," and depth == 1:
            commas.append(i)
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                commas.append(i)
                inside = [text[a + 1 : b] for a, b in pairwise(commas)]
                choices = _choices(inside, text[start : i + 1])
                return (start, i + 1, choices) if choices else (start, start + 1, ["{"])
    return start, start + 1, ["{"]


def _choices(inside: list[str], whole: str) -> list[str]:
    if len(inside) > 1:
        return inside
    match = _RANGE.match(inside[0])
    if match is None:
        return []
    if match[4]:
        first, last = ord(match[4]), ord(match[5])
        return [chr(c) for c in _counted(first, last, 1, whole)]
    padded = any(len(end) > 1 and end.startswith("0") for end in (match[1], match[2]))
    width = max(len(match[1]), len(match[2])) if padded else 0
    return [f"{n:0{width}d}" for n in _counted(int(match[1]), int(match[2]), int(match[3] or 1), whole)]


def _counted(first: int, last: int, step: int, whole: str) -> range:
    if not step:
        raise InvalidArgument(f"{whole} counts in steps of 0")
    counted = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    if len(counted) > _LARGEST:
        raise InvalidArgument(f"{whole} names more than {_LARGEST:,} things; use a wildcard instead: *, ** or ?")
    return counted


def parse(text: str) -> Pattern:
    """A pattern without braces, split."""
    magic = _MAGIC.search(text)
    if magic is None:
        folder, _, name = text.rstrip("/").rpartition("/")
        return Pattern(folder or "/" if text.startswith("/") else folder, name, None)
    cut = text.rfind("/", 0, magic.start())
    folder, rest = (text[:cut], text[cut + 1 :]) if cut >= 0 else ("", text)
    return Pattern(folder or "/" if text.startswith("/") else folder, "", re.compile(_translated(rest), re.DOTALL))


def _translated(text: str) -> str:
    out, i = [], 0
    while i < len(text):
        if text.startswith("**/", i) and (i == 0 or text[i - 1] == "/"):
            out.append("(?:[^/]+/)*")
            i += 3
        elif text.startswith("**", i):
            out.append(".*")
            i += 2
        elif text[i] == "*":
            out.append("[^/]*")
            i += 1
        elif text[i] == "?":
            out.append("[^/]")
            i += 1
        elif text[i] == "[" and (end := text.find("]", i + 2)) > 0:
            inside = (
                text[i + 1 : end]
                .replace("\\", "\\\\")
                .replace("[", "\\[")
                .replace("&&", "&\\&")
                .replace("||", "|\\|")
                .replace("~~", "~\\~")
            )
            out.append(f"(?!/)[{'^' + inside[1:] if inside[0] in '!^' else inside}]")
            i = end + 1
        else:
            out.append(re.escape(text[i]))
            i += 1
    return "".join(out) + r"\Z"
