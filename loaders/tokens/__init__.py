"""Token sequences: the documents of a split, packed into sequences of one length. `Packed` describes them."""

from loaders.tokens.packed import Packed

__all__ = ["Packed"]
