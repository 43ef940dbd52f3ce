"""Crop-indexed JPEG: files get restart markers losslessly, and a smaller JPEG can then be cut out of them for a crop.

* `recode` gives a file its markers, and their index: `Segments`, which `pack` into bytes. It is a standard JPEG for everybody else.
* `baseline` makes progressive files sequential ones first, if that is wanted: as lossless, but a few percent larger.
* `Segments.window` plans: which segments a box needs, and where the box lies in what they decode to.
* `cut` writes the JPEG of a window. Decoded by libjpeg, its pixels inside the box are those of the whole file, bit for bit.
"""

from __future__ import annotations

from dataplane.formats.jpeg.baseline import baseline
from dataplane.formats.jpeg.cut import cut
from dataplane.formats.jpeg.errors import Unsupported
from dataplane.formats.jpeg.recode import Recoded, recode
from dataplane.formats.jpeg.segments import Area, Scale, Segments, Window, aligned

__all__ = ["Area", "Recoded", "Scale", "Segments", "Unsupported", "Window", "aligned", "baseline", "cut", "recode"]
