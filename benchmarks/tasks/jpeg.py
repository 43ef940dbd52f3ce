"""JPEG → RandomResizedCrop(224, antialiased) → HorizontalFlip → ImageNet-normalised float32 CHW, in batches of 64.

`jpeg_uint8` and `jpeg_q90` are the same with another `Form`: levels of 0 to 255, HWC, resized without antialiasing.

The verification: over an epoch every photograph comes exactly as often as it should; shapes and types are the task's; mean, mean square and
horizontal detail of the normalised pixels agree with the reference's; and where a contender can say which box it cut, its pixels agree with
the reference's at that box. Detail (the mean absolute difference of neighbours in a row) is what tells an antialiased resize from a plain
one, and the distribution of crop areas from a wrong one. The reference is Pillow; where there is no antialiasing, which Pillow always has,
it is the formula in NumPy.

Shapes: B batch, C channel (RGB), H and W 224. Levels are normalised before they are compared, so that bounds mean the same everywhere.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.datasets import described, make_inputs
from benchmarks.environments import LITDATA_TORCHVISION, MOSAIC_TORCHVISION, SPDL, TORCHVISION
from benchmarks.peers.protocol import VerificationFailed
from benchmarks.tasks import Contender, Prepared, Request, Target, Task

BATCH = 64
SIZE = 224
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

STATISTICS = ("mean", "mean square", "detail")
ROW_STEP = 8
REFERENCE_CROPS_A_SAMPLE = 4
LEAST_CROPS_A_SOURCE = 2
TOLERANCE_SIGMAS = 6.0
# Decoders may differ in chroma upsampling and inverse DCT, resizers in rounding. A resize without antialiasing adds 0.016 to the detail.
DECODER_SLACK = {"mean": 0.005, "mean square": 0.01, "detail": 0.002}
PIXEL_MEAN_LEVELS = 1.0
PIXEL_WORST_LEVELS = 8.0
PIXEL_WORST_QUANTILE = 0.999

Images: TypeAlias = NDArray[np.float32]
Resampling: TypeAlias = Literal["antialiased", "plain", "area"]


@dataclass(frozen=True, slots=True)
class Form:
    """What is delivered: `output` is normalised float32 CHW, or levels of 0 to 255 in uint8 HWC. "area" is OpenCV's, for those who have no
    other; contenders that use it in a "plain" task say so, and are held against it."""

    output: Literal["normalised", "levels"] = "normalised"
    resampling: Resampling = "antialiased"

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, SIZE, SIZE) if self.output == "normalised" else (SIZE, SIZE, 3)

    @property
    def dtype(self) -> str:
        return "float32" if self.output == "normalised" else "uint8"


NORMALISED = Form()
LEVELS = Form("levels", "plain")


@dataclass(frozen=True, slots=True)
class Box:
    """A box in a photograph, in pixels, and whether it is mirrored left to right."""

    left: int
    top: int
    width: int
    height: int
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference's statistics (3 statistics × 3 channels), and the deviation that one random crop of a given photograph has around
    its mean."""

    values: list[list[float]]
    crop_deviation: list[list[float]]
    crops: int


@dataclass(frozen=True, slots=True)
class Job:
    """What every contender gets. `repeats[label]` is how often an epoch holds the photograph of that label."""

    threads: int
    batch: int
    seed: int
    tree: str
    scratch: str
    sources: list[str]
    tars: list[str]
    indexes: list[str]
    repeats: list[int]
    form: Form
    reference: Reference

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**{**value, "form": Form(**value["form"]), "reference": Reference(**value["reference"])})

    @property
    def samples(self) -> int:
        return sum(self.repeats)


def prepare(request: Request, form: Form = NORMALISED) -> Prepared:
    """Lay the inputs out, and draw the reference once for each set of inputs."""
    samples = -(-max(request.samples, 4 * BATCH) // BATCH) * BATCH
    inputs = make_inputs(request.data, cache=request.cache, samples=samples, threads=request.threads)
    sources = [str(path.resolve()) for path in inputs.sources]
    job = Job(
        threads=request.threads,
        batch=BATCH,
        seed=0,
        tree=str(inputs.tree.resolve()),
        scratch=str(inputs.folder.resolve()),
        sources=sources,
        tars=[str(path.resolve()) for path in inputs.tars],
        indexes=[str(path.resolve()) for path in inputs.indexes],
        repeats=list(inputs.repeats),
        form=form,
        reference=_stored_reference(sources, inputs.repeats, inputs.folder, form.resampling, threads=request.threads),
    )
    return Prepared(job=asdict(job), data=described(inputs))


def resampled_as(job: Job, resampling: Resampling) -> Job:
    """The job for a contender that resizes in its own way, with the reference of that."""
    folder = Path(job.scratch)
    reference = _stored_reference(job.sources, tuple(job.repeats), folder, resampling, threads=job.threads)
    return replace(job, form=replace(job.form, resampling=resampling), reference=reference)


def normalise(image_HWC: NDArray[Any]) -> Images:
    """(…, H, W, C) levels to normalised (…, C, H, W)."""
    scaled = (image_HWC.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))


def normalised(images: NDArray[Any], form: Form) -> Images:
    """What was delivered, one image or a batch, as normalised float32 CHW."""
    return images if form.output == "normalised" else normalise(images)


def crop_with_pillow(photograph: Image.Image, box: Box, resampling: Resampling = "antialiased") -> Images:
    """The task's output for one photograph and box, normalised: the crop first, so that no pixel outside the box has a say."""
    crop = photograph.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    if box.mirrored:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if resampling == "antialiased":
        return normalise(np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
    return normalise((_plain if resampling == "plain" else _area)(np.asarray(crop)))


def _plain(image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bilinear without antialiasing: the two nearest pixels of each axis, weighted by how near they are."""
    values = image_HWC.astype(np.float32)
    for axis in (0, 1):
        size = image_HWC.shape[axis]
        place = np.clip((np.arange(SIZE, dtype=np.float32) + 0.5) * size / SIZE - 0.5, 0, size - 1)
        low = np.minimum(place.astype(int), max(size - 2, 0))
        weight = (place - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, size - 1)
        values = values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
    return values


def _area(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What an output pixel covers, as OpenCV does it: it is used only where a contender brings it."""
    import cv2

    return np.asarray(cv2.resize(image_HWC, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def draw_box(rng: np.random.Generator, width: int, height: int) -> Box:
    """A box as torchvision's RandomResizedCrop draws it: ten tries, then the largest centred one of an allowed aspect."""
    mirrored = bool(rng.random() < 0.5)
    for _ in range(10):
        area = rng.uniform(*AREA) * width * height
        aspect = np.exp(rng.uniform(*np.log(ASPECT)))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h, mirrored)
    w = min(width, round(height * ASPECT[1]))
    h = min(height, round(width / ASPECT[0]))
    return Box((width - w) // 2, (height - h) // 2, w, h, mirrored)


def statistics_of(images_BCHW: Images) -> NDArray[np.float64]:
    """(B, 3, 3): for each image, the three statistics of each channel, over every eighth row."""
    rows = images_BCHW[:, :, ROW_STEP // 2 :: ROW_STEP]
    detail = np.abs(np.diff(rows, axis=-1))
    return np.stack([part.mean(axis=(-2, -1), dtype=np.float64) for part in (rows, np.square(rows), detail)], axis=1)


def draw_reference(
    sources: list[Path], repeats: tuple[int, ...], *, seed: int, threads: int, resampling: Resampling = "antialiased"
) -> Reference:
    """Several random crops of each photograph by the reference, weighted as an epoch repeats them."""
    each = max(LEAST_CROPS_A_SOURCE, REFERENCE_CROPS_A_SAMPLE * sum(repeats) // len(sources))

    def of_source(i: int) -> NDArray[np.float64]:
        rng = np.random.default_rng((seed, i))
        with Image.open(sources[i]) as opened:
            photograph = opened.convert("RGB")
        crops = [crop_with_pillow(photograph, draw_box(rng, *photograph.size), resampling) for _ in range(each)]
        return statistics_of(np.stack(crops))

    with ThreadPoolExecutor(threads) as pool:
        drawn = np.stack(list(pool.map(of_source, range(len(sources)))))
    values = np.average(drawn.mean(axis=1), axis=0, weights=repeats)
    deviation = np.sqrt(np.average(drawn.var(axis=1, ddof=1), axis=0, weights=repeats))
    return Reference(values=values.tolist(), crop_deviation=deviation.tolist(), crops=each * len(sources))


def check_batch(images: NDArray[Any], labels_B: NDArray[Any], *, batch: int, form: Form) -> None:
    """The shape and type of one batch."""
    shape = images.shape
    if len(shape) != 4 or shape[1:] != form.shape or not 0 < shape[0] <= batch or images.dtype != form.dtype:
        raise VerificationFailed(f"images are {images.dtype} {shape}, not {form.dtype} {(f'≤ {batch}', *form.shape)}")
    if labels_B.shape != shape[:1] or labels_B.dtype.kind not in "iu":
        raise VerificationFailed(f"labels are {labels_B.dtype} {labels_B.shape}, not integers {shape[:1]}")


def check_labels(labels: NDArray[Any], repeats: list[int]) -> str:
    """Every photograph, exactly as often as an epoch holds it."""
    if labels.size and (labels.min() < 0 or labels.max() >= len(repeats)):
        raise VerificationFailed(f"labels {labels.min()} to {labels.max()} were delivered, of 0 to {len(repeats) - 1}")
    counts = np.bincount(labels, minlength=len(repeats))
    wrong = np.flatnonzero(counts != repeats)
    if wrong.size:
        first = int(wrong[0])
        raise VerificationFailed(
            f"{wrong.size} of {len(repeats)} photographs did not come as often as an epoch holds them:"
            f" number {first} came {counts[first]} times instead of {repeats[first]}; {labels.size} samples came in all"
        )
    return f"{labels.size} samples, each of {len(repeats)} photographs as often as it should"


def check_statistics(found: NDArray[np.float64], reference: Reference, *, samples: int) -> dict[str, list[float]]:
    """Means over an epoch against the reference's. The bound: six standard errors of both draws, and what decoders may differ by.

    Both draws are of the same photographs, so only the crops' deviation counts, not that between photographs. Returns the differences.
    """
    expected = np.asarray(reference.values)
    error = np.asarray(reference.crop_deviation) * np.sqrt(1 / samples + 1 / reference.crops)
    bound = TOLERANCE_SIGMAS * error + np.array([[DECODER_SLACK[name]] for name in STATISTICS])
    difference = found - expected
    outside = np.argwhere(~(np.abs(difference) <= bound))
    if outside.size:
        s, c = outside[0]
        raise VerificationFailed(
            f"{STATISTICS[s]} of channel {'RGB'[c]} is {found[s, c]:.4f}, the reference's is {expected[s, c]:.4f} ± {bound[s, c]:.4f}:"
            " not the same crops, resize, colours or normalisation"
        )
    return {name: [round(float(x), 5) for x in difference[s]] for s, name in enumerate(STATISTICS)}


def check_pixels(cut: Iterable[tuple[Path, Box, NDArray[Any]]], form: Form) -> dict[str, float]:
    """Pixels of given boxes against the reference's, in levels of 0 to 255. Returns the differences found."""
    levels = 255 * np.array(STD, np.float32)[:, None, None]
    differences = np.stack(
        [np.abs(normalised(image, form) - crop_with_pillow(_rgb(path), box, form.resampling)) * levels for path, box, image in cut]
    )
    mean, worst = float(differences.mean()), float(np.quantile(differences, PIXEL_WORST_QUANTILE))
    if not (mean <= PIXEL_MEAN_LEVELS and worst <= PIXEL_WORST_LEVELS):
        raise VerificationFailed(
            f"at identical boxes, pixels differ from the reference's by {mean:.2f} levels on average (allowed {PIXEL_MEAN_LEVELS}) and by"
            f" {worst:.1f} at the {PIXEL_WORST_QUANTILE} quantile (allowed {PIXEL_WORST_LEVELS})"
        )
    return {"photographs": len(differences), "mean_levels": round(mean, 3), "worst_levels": round(worst, 2)}


def some_sources(job: Job, *, count: int = 16) -> Iterator[Path]:
    """Photographs spread through the sources, for the checks of single pictures."""
    for i in np.unique(np.linspace(0, len(job.sources) - 1, count).astype(int)):
        yield Path(job.sources[i])


def _rgb(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB")


def _stored_reference(sources: list[str], repeats: tuple[int, ...], folder: Path, resampling: Resampling, *, threads: int) -> Reference:
    """Drawn once for each set of inputs."""
    suffix = "" if resampling == "antialiased" else f"-{resampling}"
    stored = folder / f"reference-{REFERENCE_CROPS_A_SAMPLE}{suffix}.json"
    if not stored.exists():
        drawn = draw_reference([Path(path) for path in sources], repeats, seed=1, threads=threads, resampling=resampling)
        staged = stored.with_suffix(".new")
        staged.write_text(json.dumps(asdict(drawn)), encoding="utf-8")
        staged.rename(stored)
    return Reference(**json.loads(stored.read_text(encoding="utf-8")))


DATAPLANE = Contender("dataplane", "benchmarks.peers.dataplane", "this project's Loader on its own shards", "images/s", "ours")
DALI = Contender("dali", "benchmarks.peers.dali", "NVIDIA DALI's CPU pipeline on tars", "images/s", "peer")
DECODE = Contender("decode", "benchmarks.peers.decode", "libjpeg-turbo decoding whole photographs, nothing else", "images/s", "bound")

TASK = Task(
    name="jpeg",
    summary="JPEG → RandomResizedCrop(224, antialiased) → HorizontalFlip → normalised float32 CHW, batches of 64",
    contenders=(
        DATAPLANE,
        Contender("torch", "benchmarks.peers.torch", "torch DataLoader and torchvision's ImageFolder", "images/s", "peer", TORCHVISION),
        Contender("webdataset", "benchmarks.peers.webdataset", "webdataset on tars, torchvision", "images/s", "peer", TORCHVISION),
        DALI,
        Contender("litdata", "benchmarks.peers.litdata", "litdata, torchvision", "images/s", "peer", LITDATA_TORCHVISION),
        Contender("mosaic", "benchmarks.peers.mosaic", "mosaicml-streaming, torchvision", "images/s", "peer", MOSAIC_TORCHVISION),
        Contender("datasets", "benchmarks.peers.datasets", "Hugging Face datasets, torchvision", "images/s", "peer", TORCHVISION),
        Contender("spdl", "benchmarks.peers.spdl", "SPDL: FFmpeg in threads", "images/s", "peer", SPDL),
        DECODE,
    ),
    prepare=prepare,
    targets=(Target(("dali",), 2.0), Target(("torch",), 3.4), Target(("decode",), 1.25)),
)
