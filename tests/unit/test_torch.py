"""`TorchLoader`: batches as tensors, for plain loops, torch's DataLoader and the protocol of torchdata's StatefulDataLoader."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dataplane import Lake
from dataplane.errors import InvalidArgument
from loaders import Bytes, HorizontalFlip, Int64, Loader, Map, Normalize, RandomResizedCrop, ToLayout
from loaders.torch import TensorBatch, TorchLoader
from tests.pictures import make_dataset

COUNTS = [7, 11, 5, 9]
N = sum(COUNTS)
PLANAR = {"jpg;png": [RandomResizedCrop(16), HorizontalFlip(), Normalize.imagenet()], "cls": Int64()}
PIXELS = {"jpg;png": [RandomResizedCrop(16), HorizontalFlip(), Normalize.imagenet(), ToLayout("HWC")], "cls": Int64()}

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    return make_dataset(Lake.init(str(tmp_path_factory.mktemp("lake"))), "pictures", COUNTS)["train"]


@pytest.fixture
def loader_of(train):
    made = []

    def make(transform=PLANAR, **options):
        arguments = {"batch_size": 4, "transform": transform, "seed": 5, "lanes": 4, "window": 6, "threads": 2, "tail": "short"} | options
        made.append(Loader(train, **arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def keys(batches):
    return [key for batch in batches for key in batch.sample_keys]


def test_batches_are_dicts_of_tensors_that_equal_the_loaders(loader_of):
    for batch, plain in zip(TorchLoader(loader_of()), loader_of(), strict=True):
        assert isinstance(batch, dict)
        assert batch.keys() == plain.fields.keys()
        for name, value in plain.items():
            assert torch.equal(batch[name], torch.from_numpy(value))
        assert (batch.epoch, batch.sample_keys) == (plain.epoch, plain.sample_keys)
        for name in ("valid", "positions", "components", "component_epochs"):
            assert torch.equal(getattr(batch, name), torch.from_numpy(getattr(plain, name)))


def test_tensors_share_the_memory_of_batches_and_keep_it(loader_of):
    loader = loader_of(output="torch", prefetch=1)
    batches = list(TorchLoader(loader))
    assert len({batch["jpg;png"].data_ptr() for batch in batches}) == len(batches)
    again = list(loader_of())
    assert all(torch.equal(batch["cls"], torch.from_numpy(plain["cls"])) for batch, plain in zip(batches, again, strict=True))


@pytest.mark.parametrize("transform", [PLANAR, PIXELS])
def test_channels_last_is_a_matter_of_memory_only(loader_of, transform):
    plain = next(iter(loader_of()))["jpg;png"]
    images = next(iter(TorchLoader(loader_of(transform), channels_last=True)))["jpg;png"]
    assert images.shape == (4, 3, 16, 16)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, torch.from_numpy(plain))


def test_channels_last_costs_no_copy_where_pixels_lie_so_already(loader_of):
    loader, taken = loader_of(PIXELS, threads=0), []

    def allocate(shape, dtype):
        taken.append(np.empty(shape, dtype))
        return taken[-1]

    loader.allocate_with(allocate)
    images = next(iter(TorchLoader(loader, channels_last=True)))["jpg;png"]
    assert images.data_ptr() in {array.__array_interface__["data"][0] for array in taken}
    assert next(iter(TorchLoader(loader_of(PIXELS))))["jpg;png"].shape == (4, 16, 16, 3)


def test_ragged_fields_are_tensors_too(loader_of):
    transform = {"cls": Bytes()}
    for batch, plain in zip(TorchLoader(loader_of(transform)), loader_of(transform), strict=True):
        assert isinstance(batch["cls"].data, torch.Tensor)
        assert isinstance(batch["cls"].offsets, torch.Tensor)
        assert [bytes(each.numpy()) for each in batch["cls"]] == [bytes(each) for each in plain["cls"]]


@pytest.mark.parametrize("dtype", ["longdouble", ">i4"])
def test_what_torch_has_no_tensors_of_is_refused(loader_of, dtype):
    loader = loader_of({"cls": Map(lambda data: np.zeros((), dtype), shape=(), dtype=dtype)})
    with pytest.raises(InvalidArgument, match=r"no tensors of .*another dtype"):
        next(iter(TorchLoader(loader)))


# ------------------------------------------------------------------ torch's and torchdata's loaders


def test_torchs_own_loader_takes_it(loader_of):
    batches = TorchLoader(loader_of())
    loader = DataLoader(batches, batch_size=None)
    assert len(loader) == 8
    first, second = list(loader), list(loader)
    assert sorted(keys(first)) == sorted(keys(second)) == [f"pictures/{n:05d}" for n in range(N)]
    assert keys(first) != keys(second)
    assert all(isinstance(batch, TensorBatch) for batch in first)
    assert [batch.epoch for batch in second] == [1] * 8


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_are_refused_with_the_reason(loader_of, method):
    batches = TorchLoader(loader_of())
    loader = DataLoader(batches, batch_size=None, num_workers=1, multiprocessing_context=method)
    with pytest.raises(InvalidArgument, match=r"num_workers must be 0.*on threads of its own process.*num_workers=0"):
        list(loader)
    with pytest.raises(InvalidArgument, match="num_workers must be 0"):
        pickle.dumps(batches)
    with pytest.raises(InvalidArgument, match="num_workers must be 0"):
        copy.deepcopy(batches)


class Stateful:
    """What torchdata's StatefulDataLoader does with num_workers=0: the dataset's own state is asked for after each batch and given back
    before the next iterator is made."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.given = None

    def __iter__(self):
        if self.given is not None:
            self.dataset.load_state_dict(self.given)
            self.given = None
        yield from self.dataset

    def state_dict(self):
        return json.loads(json.dumps(self.dataset.state_dict()))

    def load_state_dict(self, state):
        self.given = state


def test_state_after_every_step_resumes_exactly(loader_of):
    whole = keys(TorchLoader(loader_of()))
    for stop in range(9):
        loader = Stateful(TorchLoader(loader_of()))
        seen = []
        for _, batch in zip(range(stop), loader, strict=False):
            seen += batch.sample_keys
        state = loader.state_dict()
        resumed = Stateful(TorchLoader(loader_of(batch_size=3, threads=1)))
        resumed.load_state_dict(state)
        assert seen + keys(resumed) == whole if stop < 8 else state["epoch"] == 1


def test_after_break_it_continues_and_an_older_iterator_ends(loader_of):
    whole = keys(TorchLoader(loader_of()))
    batches = TorchLoader(loader_of())
    older = iter(batches)
    seen = keys([next(older), next(older)])
    for batch in batches:
        seen += batch.sample_keys
        break
    assert list(older) == []
    assert seen + keys(batches) == whole
    batches.restart()
    assert keys(batches) == whole


@pytest.mark.parametrize("at", ["_tensors", "_moved"])
def test_an_interrupt_while_a_batch_is_moved_loses_nothing(loader_of, monkeypatch, at):
    whole = keys(TorchLoader(loader_of()))
    batches, seen, calls = TorchLoader(loader_of()), [], []
    real = getattr(sys.modules["loaders.torch"], at)

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(f"loaders.torch.{at}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        seen.extend(batch for batch in batches)
    assert batches.state_dict()["position"] == 8
    assert keys(seen) + keys(batches) == whole


# ------------------------------------------------------------------ devices


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "abacus"}, "torch does not know"),
        pytest.param({"device": "cuda"}, "no CUDA device", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")),
        pytest.param(
            {"pin_memory": True}, "needs a CUDA device", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(loader_of, options, says):
    with pytest.raises(InvalidArgument, match=says):
        TorchLoader(loader_of(), **options)


def test_a_device_without_streams_gets_batches_by_plain_copies(loader_of):
    batch = next(iter(TorchLoader(loader_of(), device="meta")))
    assert {batch["jpg;png"].device.type, batch["cls"].device.type, batch.valid.device.type} == {"meta"}


@pytest.mark.parametrize("transform", [PLANAR, PIXELS])
@pytest.mark.parametrize("channels_last", [False, True])
class TestCuda:
    pytestmark = gpu

    def test_batches_come_to_the_device_and_are_those_of_the_cpu(self, loader_of, transform, channels_last):
        here = TorchLoader(loader_of(transform), channels_last=channels_last)
        there = TorchLoader(loader_of(transform), device="cuda", channels_last=channels_last)
        for _ in range(3):
            held = []
            for plain, batch in zip(here, there, strict=True):
                torch.cuda._sleep(10_000_000)  # the model's work, while the next batch is copied
                held.append((plain["jpg;png"], batch["jpg;png"] * 1))
                assert batch["jpg;png"].device.type == batch.valid.device.type == "cuda"
                assert torch.equal(batch["cls"].cpu(), plain["cls"])
                assert batch.sample_keys == plain.sample_keys
            assert all(torch.equal(plain, batch.cpu()) for plain, batch in held)

    def test_state_is_of_what_was_delivered_not_of_what_was_copied_ahead(self, loader_of, transform, channels_last):
        whole = keys(TorchLoader(loader_of(transform)))
        batches, seen = TorchLoader(loader_of(transform), device="cuda", channels_last=channels_last), []
        for stop in range(1, 8):
            for batch in batches:
                seen += batch.sample_keys
                break
            assert batches.state_dict()["position"] == 4 * stop
        assert seen + keys(batches) == whole

    def test_pinned_memory_without_a_device(self, loader_of, transform, channels_last):
        batch = next(iter(TorchLoader(loader_of(transform), pin_memory=True)))
        assert batch["jpg;png"].is_pinned()
        assert batch["cls"].is_pinned()


def test_without_torch_the_message_says_what_to_install():
    program = """
import sys
sys.modules["torch"] = None
from dataplane.errors import MissingExtra
try:
    import loaders.torch
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'dataplane[torch]'" in done.stdout
