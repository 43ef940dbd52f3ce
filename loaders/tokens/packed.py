"""`Packed`: documents of tokens as sequences of one length, described."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from dataplane.dataset import Split
from dataplane.errors import InvalidArgument

if TYPE_CHECKING:
    from loaders.tokens.feed import PackedFeed

__all__ = ["Packed"]

How = Literal["concat", "best-fit"]
TokenType = Literal["int32", "int64", "uint16"]

_TOKENS: Final = re.compile(r"list<u?int\d+>")
_LONGEST: Final = 1 << 30  # tokens of a sequence: positions are int32
_MOST: Final[Mapping[str, int]] = {"int32": (1 << 31) - 1, "int64": (1 << 63) - 1, "uint16": (1 << 16) - 1}


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences of `length` tokens, packed from the documents of `split`: lists of whole numbers in the Parquet column `field`.

    Arguments:
        how: "concat" lays the documents end to end and cuts the stream every `length` tokens, so that no token but the tail's is left out
            and nothing is padded; "best-fit" begins every document in some sequence and cuts only those that are longer than one.
        separator: with "concat", a token that is put behind every document, such as the end of text; None for none.
        pad: with "best-fit", the token that fills up a sequence.
        positions, segments: whether batches have these fields.
        dtype: of the tokens in a batch: "int32", "int64" or "uint16". One that does not fit is a `BadSample`.

    Fields of a sequence: `tokens` [length]; `positions` int32 [length], the place of each token in its document; `segments` int32
    [length], which document of the sequence it is of: 1, 2, … and 0 for padding. Hand it to a `Loader`, or put it into a `Mixture`. Raises
    `InvalidArgument`.
    """

    split: Split
    field: str = "tokens"
    length: int = dataclasses.field(kw_only=True)
    how: How = dataclasses.field(kw_only=True, default="concat")
    separator: int | None = dataclasses.field(kw_only=True, default=None)
    pad: int = dataclasses.field(kw_only=True, default=0)
    positions: bool = dataclasses.field(kw_only=True, default=True)
    segments: bool = dataclasses.field(kw_only=True, default=True)
    dtype: TokenType = dataclasses.field(kw_only=True, default="int32")

    def __post_init__(self) -> None:
        if not isinstance(self.split, Split):
            raise InvalidArgument(f"split is {self.split!r}; it must be a split, such as lake.dataset('text')['train']")
        if self.how not in get_args(How):
            raise InvalidArgument(f"how is {self.how!r}; it must be one of {', '.join(get_args(How))}")
        if self.dtype not in _MOST:
            raise InvalidArgument(f"dtype is {self.dtype!r}; it must be one of {', '.join(_MOST)}")
        self._integer("length", 1, _LONGEST)
        self._integer("pad", 0, self.most)
        if self.separator is not None:
            self._integer("separator", 0, self.most)
            if self.how != "concat":
                raise InvalidArgument("separator goes between the documents of a stream: with how='best-fit' they are told by `segments`")
        kind = next((field for field in self.split.dataset.schema.fields if field.name == self.field), None)
        if kind is None:
            known = ", ".join(sorted(field.name for field in self.split.dataset.schema.fields))
            raise InvalidArgument(f"{self.split} has no field {self.field!r}; its fields are {known}")
        if kind.type is None or not _TOKENS.fullmatch(kind.type):
            raise InvalidArgument(f"{self.split}: field {self.field!r} is {kind}; tokens are lists of whole numbers, such as list<uint16>")

    @property
    def most(self) -> int:
        """The largest token."""
        return _MOST[self.dtype]

    def feed(self, split: Split, transform: Mapping[str, Any]) -> PackedFeed:
        """The feed of `split`: see `loaders.feed.FeedDescription`. Counts the tokens of shards that the manifest has no count of."""
        from loaders.tokens.feed import PackedFeed

        return PackedFeed(self, split)

    def _integer(self, name: str, low: int, high: int) -> None:
        """Check an argument, and keep it as an int: one of NumPy would not go into a checkpoint as JSON."""
        value = getattr(self, name)
        try:
            number = operator.index(value)
        except TypeError:
            raise InvalidArgument(f"{name} is {value!r}; it must be an integer") from None
        if not low <= number <= high:
            raise InvalidArgument(f"{name} is {number}; it must be {low} ≤ {name} ≤ {high}")
        object.__setattr__(self, name, number)
