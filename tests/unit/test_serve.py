"""The HTTP application around a published model: answers, refusals, measures; and what it does not load."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from dataplane import Lake
from dataplane.checkpoint import Model, Trained, publish
from dataplane.errors import CorruptObject, NotFound
from serve.app import create_app
from serve.model import Predictor, load_network
from train.config import TrainConfig, parse_config
from train.models import build_model
from train.publish import export_network

_CLASSES = ("cat", "dog", "owl")
_LIMIT_BYTES = 50_000
_TRANSFORM = [{"op": "Resize", "size": 16}, {"op": "CenterCrop", "size": 16}, {"op": "ToFloat"}]


def configured(kind: str) -> TrainConfig:
    sizes = {"cnn": {"width": 8}, "resnet": {"width": 8, "blocks": [1, 1], "norm": "batch", "dropout": 0.5}}
    values = {
        "epochs": 1,
        "batch_size": 2,
        "data": {"dataset": "pets", "transform": _TRANSFORM, "validate_transform": _TRANSFORM},
        "model": {"kind": kind, **sizes[kind]},
        "optimizer": {"kind": "sgd", "lr": 0.1},
    }
    return parse_config(values, where="the test")


def weights(kind: str) -> dict[str, Any]:
    torch.manual_seed(3)
    return dict(build_model(configured(kind).model, len(_CLASSES)).state_dict())


@pytest.fixture(scope="module")
def graph() -> bytes:
    return export_network(configured("cnn"), len(_CLASSES))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, graph: bytes) -> Lake:
    lake = Lake.init(str(tmp_path_factory.mktemp("serving") / "lake"))
    publish_pets(lake, graph, save(weights("cnn")))
    return lake


def publish_pets(lake: Lake, graph: bytes, tensors: bytes, name: str = "pets") -> Model:
    return publish(
        lake,
        name,
        network=lake.objects.put(graph, suffix=".pt2"),
        weights=lake.objects.put(tensors, suffix=".safetensors"),
        transform=_TRANSFORM,
        classes=_CLASSES,
        run="run",
        checkpoint=1,
        dataset=Trained("pets", 1, "id"),
        config={},
        metrics={},
    )


@pytest.fixture(scope="module")
def predictor(lake: Lake) -> Iterator[Predictor]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Predictor(lake, "pets")
    torch.set_num_threads(before)


def picture(kind: str = "PNG", *, orientation: int = 1) -> bytes:
    image = (
        Image.effect_noise((40, 30), 90).convert("RGB") if kind == "noise" else Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG" if kind == "noise" else kind, exif=exif)
    return file.getvalue()


def ask(predictor: Predictor, use: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """What `use` returns of a client of the application."""

    async def inside() -> Any:
        transport = httpx.ASGITransport(create_app(predictor, limit_bytes=_LIMIT_BYTES))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await use(client)

    return asyncio.run(inside())


def test_a_picture_gets_its_class(predictor: Predictor) -> None:
    answer = ask(predictor, lambda client: client.post("/predict", content=picture()))
    assert answer.status_code == 200
    document = answer.json()
    assert document["model"] == "pets@1"
    assert list(document["probabilities"]) == list(_CLASSES)
    assert sum(document["probabilities"].values()) == pytest.approx(1)
    assert document["probability"] == max(document["probabilities"].values())
    assert document["probabilities"][document["class"]] == document["probability"]


def test_the_answer_is_that_of_the_trained_network(predictor: Predictor) -> None:
    network = build_model(configured("cnn").model, len(_CLASSES)).eval()
    network.load_state_dict(weights("cnn"))
    grey = io.BytesIO()
    Image.new("RGB", (16, 16), (51, 102, 153)).save(grey, "PNG")
    pixels_BCHW = torch.tensor([51, 102, 153]).div(255).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    expected = torch.softmax(network(pixels_BCHW)[0].double(), 0).tolist()
    assert list(predictor.predict(grey.getvalue()).probabilities.values()) == pytest.approx(expected, abs=1e-6)


def test_orientation_is_applied(predictor: Predictor) -> None:
    upright = Image.open(io.BytesIO(picture())).transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    upright.save(file, "PNG")
    expected = predictor.predict(file.getvalue()).probabilities
    assert predictor.predict(picture(orientation=8)).probabilities == expected
    assert predictor.predict(picture()).probabilities != expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_is_read(predictor: Predictor, kind: str) -> None:
    assert predictor.predict(picture(kind)).name in _CLASSES


@pytest.mark.parametrize(
    ("content", "headers", "status", "kind"),
    [
        (b"", {}, 400, "bad-sample"),
        (b"not a picture", {}, 400, "bad-sample"),
        (picture()[:-80], {}, 400, "bad-sample"),
        (b"x" * (_LIMIT_BYTES + 1), {}, 413, "invalid-argument"),
        (picture(), {"content-type": "multipart/form-data; boundary=x"}, 415, "invalid-argument"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(
    predictor: Predictor, content: bytes, headers: dict[str, str], status: int, kind: str
) -> None:
    answer = ask(predictor, lambda client: client.post("/predict", content=content, headers=headers))
    assert answer.status_code == status
    assert answer.json()["error"]["kind"] == kind
    assert answer.json()["error"]["message"]


def test_a_body_of_unknown_length_is_limited_too(predictor: Predictor) -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    answer = ask(predictor, lambda client: client.post("/predict", content=pieces()))
    assert answer.status_code == 413


def test_health_and_measures(predictor: Predictor) -> None:
    async def use(client: httpx.AsyncClient) -> Any:
        answers = [await client.post("/predict", content=body) for body in (picture(), picture(), b"")]
        probes = [await client.get(path) for path in ("/healthz", "/readyz")]
        return [a.status_code for a in answers], [p.status_code for p in probes], (await client.get("/metrics")).text

    answers, probes, metrics = ask(predictor, use)
    assert (answers, probes) == ([200, 200, 400], [200, 200])
    values = dict(re.findall(r"^(dataplane_\S+) ([0-9.]+)$", metrics, re.MULTILINE))
    assert values['dataplane_predict_requests_total{status="200"}'] == "2.0"
    assert values['dataplane_predict_requests_total{status="400"}'] == "1.0"
    assert values["dataplane_predict_seconds_count"] == "3.0"
    assert values["dataplane_predict_open"] == "0.0"


def test_a_residual_network_with_batch_norm_is_served() -> None:
    config = configured("resnet")
    network = build_model(config.model, 3)
    network(torch.rand(8, 3, 16, 16))  # running statistics of its own
    network.eval()
    served = load_network(export_network(config, 3), load(save(dict(network.state_dict()))), name="a test")
    for batch in (1, 5):
        pixels_BCHW = torch.rand(batch, 3, 16, 16)
        torch.testing.assert_close(served(pixels_BCHW), network(pixels_BCHW))


def test_the_graph_holds_no_weights_and_no_pickle(graph: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(graph)) as archive:
        stored = [
            entry.file_size for entry in archive.infolist() if "/weights/weight" in entry.filename or "/sample_inputs/" in entry.filename
        ]
    assert stored
    assert not any(stored)


def test_an_archive_with_pickled_values_is_not_loaded() -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    file = io.BytesIO()
    torch.export.save(program, file)  # with its example inputs, pickled
    with pytest.raises(CorruptObject, match="holds pickled values"):
        load_network(file.getvalue(), {}, name="model@1")


def test_what_does_not_belong_together_is_not_served(lake: Lake, graph: bytes) -> None:
    with pytest.raises(NotFound, match="has no model 'cats'; it has: pets"):
        Predictor(lake, "cats")
    for at, (network, tensors) in enumerate([(graph, save({"other": torch.zeros(1)})), (b"nonsense", save(weights("cnn")))], 1):
        model = publish_pets(lake, network, tensors, name="broken")
        assert model.number == at
        with pytest.raises(CorruptObject, match=f"the network of broken@{at}"):
            Predictor(lake, "broken")
