"""JPEG → RandomResizedCrop(224) without antialiasing → HorizontalFlip → uint8 HWC, in batches of 64.

It is `benchmarks.tasks.jpeg` in another form.
"""

from functools import partial

from benchmarks.tasks import Target, Task
from benchmarks.tasks.jpeg import DALI, DATAPLANE, DECODE, LEVELS, prepare

TASK = Task(
    name="jpeg-uint8",
    summary="JPEG → RandomResizedCrop(224), no antialiasing → HorizontalFlip → uint8 HWC, batches of 64",
    contenders=(DATAPLANE, DALI, DECODE),
    prepare=partial(prepare, form=LEVELS),
    targets=(Target(("dali",), 2.0), Target(("decode",), 1.4)),
)
