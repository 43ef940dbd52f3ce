"""The one error of this package that is no fault of anybody's."""

from __future__ import annotations

from dataplane.errors import DataplaneError

__all__ = ["Unsupported"]


class Unsupported(DataplaneError, ValueError):
    """A JPEG that is not transcoded: of another kind, damaged, or odd. It is stored as it is; the message is the reason, a few words."""

    kind = "unsupported"
