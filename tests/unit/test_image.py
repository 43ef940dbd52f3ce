"""Images into their slots: against Pillow, upright whatever their orientation, with the same result from every thread."""

import io
import threading

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageEnhance, ImageOps

from dataplane.errors import InvalidArgument
from dataplane.philox import sample_stream
from loaders.decode import Workspace
from loaders.image import ImagePipeline
from loaders.kernels.draws import draw
from loaders.transforms import (
    CenterCrop,
    ColorJitter,
    Grayscale,
    HorizontalFlip,
    ImageTransforms,
    Normalize,
    RandAugment,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    ToFloat,
    ToLayout,
    VerticalFlip,
)
from loaders.transforms.plan import Step, Warp
from tests.images import SAMPLINGS, as_pillow, encoded, jpeg, picture

PLACE = {"seed": 3, "component": 0, "epoch": 1, "position": 5}


def run(ops, data, size=(0, 0), orientation=0, **place) -> np.ndarray:
    pipeline = ImagePipeline(ops)
    out = np.zeros(pipeline.shape, pipeline.dtype)
    pipeline.run(data, width=size[0], height=size[1], orientation=orientation, **(PLACE | place), out=out, workspace=Workspace())
    return out


def upright_reference(data: bytes, ops, **place) -> np.ndarray:
    """What Pillow makes of the same plan, uint8 [3, h, w]. Windows are cut after resizing everything."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    plan = ImageTransforms(tuple(ops)).plan(image.height, image.width, **(PLACE | place))
    box, window = plan.box, plan.window
    crop = image.crop((box.x, box.y, box.x + box.width, box.y + box.height))
    resized = crop.resize(plan.resized[::-1], Image.Resampling.BILINEAR)
    resized = resized.crop((window.x, window.y, window.x + window.width, window.y + window.height))
    resized = ImageOps.flip(resized) if plan.flip_rows else resized
    return np.asarray(ImageOps.mirror(resized) if plan.flip else resized).transpose(2, 0, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_orientations(orientation, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = picture(61, 83)
    data = encoded(pixels, kind, exif=exif)
    stored = as_pillow(data) if kind == "JPEG" else pixels
    marked = Image.fromarray(stored)
    marked.getexif()[ExifTags.Base.Orientation] = orientation
    upright = encoded(ImageOps.exif_transpose(marked))
    for ops in (
        [RandomResizedCrop((17, 30)), HorizontalFlip(), VerticalFlip(), ColorJitter(0.4)],
        [Resize(40), CenterCrop((20, 33))],
        [CenterCrop((9, 50))],
    ):
        for position in range(6):
            expected = run(ops, upright, position=position)
            assert np.array_equal(run(ops, data, (83, 61), orientation, position=position), expected)
            assert np.array_equal(run(ops, data, position=position), expected), "the header says the same as the index"


@pytest.mark.parametrize(
    "ops", [[RandomResizedCrop(64), HorizontalFlip(), VerticalFlip()], [Resize(48), CenterCrop(40), HorizontalFlip()], [Resize((90, 33))]]
)
def test_pipelines_equal_pillow(ops):
    for position in range(10):
        data = jpeg(picture(80 + 13 * position, 150 - 7 * position, position), SAMPLINGS[position % 6])
        got = run(ops, data, position=position)
        assert np.abs(got.astype(int) - upright_reference(data, ops, position=position)).max() <= 1


def test_floats():
    data = jpeg(picture(90, 70), "420")
    crop = [RandomResizedCrop(32), HorizontalFlip()]
    levels = upright_reference(data, crop)
    got = run([*crop, ToFloat()], data)
    assert got.dtype == np.float32
    assert np.abs(got * 255 - levels).max() < 1
    mean, std = np.array([0.485, 0.456, 0.406])[:, None, None], np.array([0.229, 0.224, 0.225])[:, None, None]
    assert np.allclose(run([*crop, Normalize.imagenet()], data), (got - mean) / std, atol=1e-5)
    assert np.array_equal(run([*crop, ToFloat(), Normalize.imagenet()], data), run([*crop, Normalize.imagenet()], data))


@pytest.mark.parametrize("steps", [[], [RandomRotation(20), ColorJitter(0.4, 0.4, 0.4, 0.1), RandAugment()]])
def test_threads_agree(steps):
    pictures = [jpeg(picture(70 + n, 90, n), "420") for n in range(8)]
    pipeline = ImagePipeline([RandomResizedCrop(48), HorizontalFlip(), *steps, Normalize.imagenet()])
    batches = [np.zeros((len(pictures), *pipeline.shape), np.float32) for _ in range(3)]

    def work(out):
        workspace = Workspace()
        for n, data in enumerate(pictures):
            pipeline.run(data, width=90, height=70 + n, orientation=1, **PLACE, out=out[n], workspace=workspace)

    threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(batches[0], batches[1])
    assert np.array_equal(batches[0], batches[2])
    assert len({batch.tobytes() for batch in batches[0]}) == len(pictures)


def test_slots_have_to_fit():
    pipeline = ImagePipeline([RandomResizedCrop(16), ToFloat()])
    slots = [np.zeros((3, 16, 16), np.uint8), np.zeros((3, 16, 17), np.float32), np.zeros((16, 16, 3), np.float32).transpose(2, 0, 1)]
    for out in slots:
        with pytest.raises(InvalidArgument, match="C-contiguous float32"):
            pipeline.run(b"", width=1, height=1, orientation=1, **PLACE, out=out, workspace=Workspace())


def test_photographs(photos):
    """The pipeline differs from Pillow by one level at most."""
    ops = [RandomResizedCrop(224), HorizontalFlip()]
    worst = 0
    for position, path in enumerate(sorted(photos.glob("*.jpg"))[::6]):
        data = path.read_bytes()
        got = run(ops, data, position=position)
        worst = max(worst, int(np.abs(got.astype(int) - upright_reference(data, ops, position=position)).max()))
    assert worst <= 1


def by_pillow(image: Image.Image, step: Step) -> Image.Image:
    """A step, by the function of Pillow that torchvision calls."""
    if isinstance(step, Warp):
        sampling = Image.Resampling.BILINEAR if step.bilinear else Image.Resampling.NEAREST
        return image.transform(image.size, Image.Transform.AFFINE, step.matrix, sampling, fillcolor=step.fill)
    enhancers = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
        "sharpness": ImageEnhance.Sharpness,
    }
    if step.kind in enhancers:
        return enhancers[step.kind](image).enhance(step.amount)
    match step.kind:
        case "grey":
            return image.convert("L").convert("RGB")
        case "posterize":
            return ImageOps.posterize(image, int(step.amount))
        case "solarize":
            return ImageOps.solarize(image, step.amount)
        case "autocontrast":
            return ImageOps.autocontrast(image)
        case "equalize":
            return ImageOps.equalize(image)
    hue, saturation, value = image.convert("HSV").split()
    moved = Image.fromarray(np.array(hue) + np.int32(step.amount * 255).astype(np.uint8))
    return Image.merge("HSV", (moved, saturation, value)).convert("RGB")


PLACES = [RandomResizedCrop((48, 56)), HorizontalFlip(), VerticalFlip()]


@pytest.mark.parametrize(
    "op",
    [
        RandomRotation(40, "bilinear", fill=(9, 8, 7)),
        RandomAffine(20, (0.2, 0.1), (0.7, 1.4), (-10, 10, -5, 5)),
        ColorJitter(0.5, 0.5, 0.5, 0.2),
        Grayscale(3),
        RandomGrayscale(0.5),
        RandAugment(3, 12),
    ],
    ids=lambda op: type(op).__name__,
)
def test_what_follows_resampling_is_done_as_pillow_does_it(op):
    """To the pixels that come without `op`, Pillow's functions with the plan's parameters: the same, bit for bit."""
    done = set()
    for position in range(12):
        data = jpeg(picture(80 + 3 * position, 150 - 7 * position, position), "420")
        before = run(PLACES, data, position=position)
        steps = ImageTransforms((*PLACES, op)).plan(80 + 3 * position, 150 - 7 * position, **(PLACE | {"position": position})).steps
        expected = Image.fromarray(before.transpose(1, 2, 0))
        for step in steps:
            expected = by_pillow(expected, step)
        got = run([*PLACES, op], data, position=position)
        assert np.array_equal(got.transpose(1, 2, 0), np.asarray(expected))
        done.add(got.tobytes() != before.tobytes())
    assert True in done


def test_values_after_steps():
    data = jpeg(picture(90, 70), "420")
    ops = [*PLACES, ColorJitter(0.5, 0.5), RandAugment()]
    levels = run(ops, data)
    mean, std = np.array([0.485, 0.456, 0.406])[:, None, None], np.array([0.229, 0.224, 0.225])[:, None, None]
    assert np.allclose(run([*ops, ToFloat()], data), levels / 255, atol=1e-6)
    assert np.allclose(run([*ops, Normalize.imagenet()], data), (levels / 255 - mean) / std, atol=1e-5)


@pytest.mark.parametrize("steps", [[], [ColorJitter(0.5)]])
@pytest.mark.parametrize("values", [[], [ToFloat()], [Normalize.imagenet()]])
def test_layouts(steps, values):
    data = jpeg(picture(90, 70), "420")
    planar = run([*PLACES, *steps, *values], data)
    got = run([*PLACES, *steps, *values, ToLayout("HWC")], data)
    assert got.shape == (48, 56, 3)
    assert got.dtype == planar.dtype
    assert np.array_equal(got.transpose(2, 0, 1), planar)


@pytest.mark.parametrize("steps", [[], [ColorJitter(0.5)]])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_half_floats_are_rounded_once(steps, layout):
    data = jpeg(picture(90, 70), "420")
    single = run([*PLACES, *steps, Normalize.imagenet(), ToLayout(layout)], data)
    half = run([*PLACES, *steps, Normalize.imagenet("float16"), ToLayout(layout)], data)
    assert half.dtype == np.float16
    assert np.array_equal(half, single.astype(np.float16))


@pytest.mark.parametrize(
    "ops",
    [
        [Resize((3, 3))],
        [Resize((3, 3)), Grayscale(3)],
        [Resize((40, 30), interpolation="bicubic"), HorizontalFlip(1)],
        [RandomResizedCrop(24, antialias=False), Normalize.imagenet(), RandomErasing(1.0, value="random")],
        [RandomResizedCrop(24), ToFloat("float16"), RandomErasing(1.0, value=(0.1, 0.2, 0.3))],
        [RandomResizedCrop(24), RandomErasing(1.0, value=7)],
        [CenterCrop(24), ColorJitter(0.5), Normalize.imagenet()],
    ],
    ids=str,
)
def test_a_layout_is_nothing_but_an_order(ops):
    data = jpeg(picture(90, 70), "420")
    assert np.array_equal(run([*ops, ToLayout("HWC")], data).transpose(2, 0, 1), run(ops, data))


@pytest.mark.parametrize("values", [[], [ToFloat()], [Normalize((0.5,), (0.25,))]])
def test_one_channel(values):
    data = jpeg(picture(90, 70), "420")
    grey = np.asarray(Image.fromarray(run(PLACES, data).transpose(1, 2, 0)).convert("L"))
    expected = grey if not values else grey / 255 if values == [ToFloat()] else (grey / 255 - 0.5) / 0.25
    got = run([*PLACES, Grayscale(), *values], data)
    assert got.shape == (1, 48, 56)
    assert np.allclose(got[0], expected, atol=1e-5)
    assert np.array_equal(run([*PLACES, Grayscale(), *values, ToLayout("HWC")], data)[..., 0], got[0])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("sampling", ["420", "Gray"])
def test_padded_crops(mode, sampling):
    """The usual augmentation of small pictures: padded, cropped, mirrored; against numpy's padding."""
    pixels = picture(32, 40)
    data = jpeg(pixels, sampling)
    ops = [RandomCrop((32, 40), padding=4, padding_mode=mode, fill=(7, 70, 200)), HorizontalFlip(), VerticalFlip()]
    whole = np.pad(as_pillow(data), ((4, 4), (4, 4), (0, 0)), **({} if mode == "constant" else {"mode": mode}))
    if mode == "constant":
        whole = np.array(ImageOps.expand(Image.fromarray(as_pillow(data)), 4, (7, 70, 200)))
    framed = 0
    for position in range(30):
        plan = ImageTransforms(tuple(ops)).plan(32, 40, **(PLACE | {"position": position}))
        y, x = (plan.frame.box.y, plan.frame.box.x) if plan.frame else (plan.box.y, plan.box.x)
        expected = whole[y + 4 : y + 36, x + 4 : x + 44][:: -1 if plan.flip_rows else 1, :: -1 if plan.flip else 1]
        assert np.array_equal(run(ops, data, position=position).transpose(1, 2, 0), expected)
        framed += plan.frame is not None
    assert framed > 20


def test_padded_crops_of_resized_images():
    data = jpeg(picture(90, 130), "420")
    ops = [Resize((48, 60)), CenterCrop((40, 50)), RandomCrop((44, 30), padding=6, padding_mode="reflect")]
    whole = np.pad(run(ops[:2], data), ((0, 0), (6, 6), (6, 6)), mode="reflect")
    for position in range(20):
        u = draw(sample_stream(PLACE["seed"], 0, PLACE["epoch"], position, 2), 2)
        y, x = int(u[0] * 9), int(u[1] * 33)
        assert np.array_equal(run(ops, data, position=position), whole[:, y : y + 44, x : x + 30])


def test_crops_of_padding_alone():
    data = encoded(picture(3, 3))
    ops = [RandomCrop(2, padding=9, fill=5)]
    outside = [run(ops, data, position=p) for p in range(40)]
    assert any((image == 5).all() for image in outside)
    assert not all((image == 5).all() for image in outside)


@pytest.mark.parametrize("position", range(4))
def test_cubic_and_area(position):
    data = jpeg(picture(90, 130, position), "420")
    for interpolation, sampling in (("bicubic", Image.Resampling.BICUBIC), ("area", Image.Resampling.BOX)):
        ops = [RandomResizedCrop((45, 45), interpolation=interpolation, scale=(1, 1), ratio=(1, 1)), HorizontalFlip()]
        plan = ImageTransforms(tuple(ops)).plan(90, 130, **(PLACE | {"position": position}))
        assert plan.box[2:] == (90, 90), "halved, where OpenCV's area and Pillow's box are the same"
        channels = [
            np.asarray(Image.fromarray(channel).crop((plan.box.x, 0, plan.box.x + 90, 90)).resize((45, 45), sampling))
            for channel in as_pillow(data).transpose(2, 0, 1).astype(np.float32)
        ]
        expected = np.clip(np.stack(channels), 0, 255)[..., :: -1 if plan.flip else 1]
        assert np.abs(run(ops, data, position=position) - expected).max() <= 0.51
        assert np.abs(run([*ops, ToFloat()], data, position=position) * 255 - expected).max() < 0.01
        assert np.array_equal(run([*ops, ColorJitter()], data, position=position), run(ops, data, position=position))


def test_cubic_overshoot_is_cut():
    step = np.zeros((40, 40, 3), np.uint8)
    step[:, 20:] = 255
    ops = [Resize((97, 97), "bicubic")]
    assert set(np.unique(run(ops, encoded(step))[:, :, :30])) == {0}
    floats = run([*ops, Normalize.imagenet()], encoded(step))
    low, high = (0 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    assert np.allclose(floats.min(axis=(1, 2)), low, atol=1e-5)
    assert np.allclose(floats.max(axis=(1, 2)), high, atol=1e-5)


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize(
    ("values", "value"),
    [([], (1, 2, 3)), ([], 255), ([Normalize.imagenet()], -0.5), ([ToFloat("float16")], (0.25, 0.5, 0.75)), ([ToFloat()], "random")],
)
def test_erasing(layout, values, value):
    data = jpeg(picture(90, 70), "420")
    for position in range(5):
        untouched = run([*PLACES, *values], data, position=position)
        ops = [*PLACES, *values, RandomErasing(0.7, value=value), ToLayout(layout)]
        box, expected = None, untouched.copy()
        if erasure := ImageTransforms(tuple(ops)).plan(90, 70, **(PLACE | {"position": position})).erasure:
            box = np.s_[:, erasure.box.y : erasure.box.y + erasure.box.height, erasure.box.x : erasure.box.x + erasure.box.width]
        got = run(ops, data, position=position)
        got = got if layout == "CHW" else got.transpose(2, 0, 1)
        if box and value == "random":
            assert got[box].std() > 0.5
            expected[box] = got[box]
        elif box:
            expected[box] = np.broadcast_to(value, 3)[:, None, None]
        assert np.array_equal(got, expected)


def test_a_single_pixel():
    data = encoded(np.array([[[200, 100, 50]]], np.uint8))
    everything = [
        RandomResizedCrop(4, interpolation="bicubic"),
        HorizontalFlip(),
        VerticalFlip(),
        RandAugment(4),
        ColorJitter(0.4, 0.4, 0.4, 0.4),
    ]
    for position in range(20):
        assert run([Resize((3, 3)), RandomRotation(0)], data, position=position)[:, 1, 1].tolist() == [200, 100, 50]
        assert run([*everything, Grayscale(), Normalize((0.5,), (0.5,)), RandomErasing()], data, position=position).shape == (1, 4, 4)
        assert run([RandomCrop(3, pad_if_needed=True, padding_mode="reflect")], data, position=position).max() == 200
        assert run([CenterCrop(1), RandAugment(6, 30)], data, position=position).shape == (3, 1, 1)
