"""What a device is asked for at its full size, without one: tensors that have shapes and no values (PyTorch's meta device).

A million images of 3×64×64 are 12 GB that no test can hold; shapes, memory and the grids of kernels are the same without them.
"""

import inspect

import numpy as np
import pytest
import torch
from tests.posterior.device.cases import between, question, random_set
from tests.posterior.device.test_memory import PeakMemory

from scorescope.data.images import ImageSet
from scorescope.posterior.device import DeviceEngine, attention, dense, two_passes
from scorescope.posterior.device.dense import DenseMasks
from scorescope.posterior.device.equivariant import Band
from scorescope.posterior.device.parts import Parts
from scorescope.posterior.device.regions import MaskMatrix, Windows
from scorescope.posterior.windows import Window

pytest.importorskip("triton")
from scorescope.posterior.device import attention_kernel, dense_kernel, two_pass_kernels

SHAPE = (3, 64, 64)
VALUES = 3 * 64 * 64
META = torch.device("meta")
KERNELS = {
    attention_kernel: ("attend",),
    dense_kernel: ("attend_masks",),
    two_pass_kernels: ("score", "select", "average", "combine"),
}
# Arguments that kernels index by 32-bit numbers.
SHORT_INDEX = {"places", "kept", "sizes", "base", "blocks", "found", "nearest_norm"}


class Launcher:
    """Stands where a kernel is, and refuses what a device would refuse or a kernel's 32-bit numbers would not hold."""

    def __init__(self, kernel, seen):
        self.kernel, self.seen = kernel, seen

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            x, *others = grid
            assert 0 < x < 2**31, grid
            assert all(0 < each < 2**16 for each in others), grid
            named = inspect.signature(self.kernel.fn).bind(
                *arguments, **{k: v for k, v in options.items() if k.isupper()}
            )
            for name, value in named.arguments.items():
                if isinstance(value, torch.Tensor):
                    assert value.device == META, name
                    assert value.is_contiguous(), name
                    assert name not in SHORT_INDEX or value.numel() < 2**31, name
                elif value is not None:
                    assert value < 2**31, (name, value)
            self.seen.append(self.kernel.fn.__name__)

        return launch


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that were started."""
    seen = []
    for module, names in KERNELS.items():
        for name in names:
            monkeypatch.setattr(module, name, Launcher(getattr(module, name), seen))
    monkeypatch.setattr(attention, "runs_on", lambda place: True)
    return seen


def on_meta(count, shape=SHAPE, flips=False, **budget):
    """The engine of so many images, all of them on the device."""
    images = ImageSet(np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (count, *shape)))
    engine = DeviceEngine(images.with_flips() if flips else images, META, **budget)
    assert engine.store.is_resident
    engine.store._resident = torch.empty(count, *shape, dtype=torch.int8, device=META)
    return engine


def noisy(batch, values=VALUES):
    return torch.empty(batch, values, dtype=torch.float64, device=META), torch.empty(
        batch, dtype=torch.float64, device=META
    )


def moved(parts):
    return Parts(*(each.to(META) for each in (parts.places, parts.sizes, parts.kept)))


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "flips"), [(1, False), (64, True), (256, False)])
def test_whole_images_of_a_million_keep_to_what_is_said_of_memory(batch, flips, launched):
    engine = on_meta(1_000_000, flips=flips)
    with PeakMemory() as memory:
        engine.whole_image._passed(*noisy(batch), moments=True, top=4)
    assert set(launched) == {"score", "select", "average"}
    assert memory.peak <= engine.store.placement.device_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("side", "batch"), [(7, 64), (23, 16), (64, 1)])
def test_windows_keep_to_what_is_said_of_memory(side, batch, launched):
    engine = on_meta(50_000)
    parts = moved(Parts.of_windows(Windows(Window.inside(side, 64, 64), 64, 64), 3, torch.device("cpu")))
    with PeakMemory() as memory:
        answers = attention.part_means(engine.store, *noisy(batch), parts)
    assert set(launched) == ({"attend"} if side == 7 else {"score", "select", "average"})
    assert memory.peak - answers.nbytes <= engine.store.placement.device_bytes


@pytest.mark.parametrize("batch", [1, 32])
def test_dense_masks_keep_to_what_is_said_of_memory(batch, launched):
    engine, masks = on_meta(50_000), MaskMatrix(torch.empty(VALUES, VALUES, device=META), (3 * 64, 64))
    whole = torch.empty(VALUES // 64, VALUES // 64, dtype=torch.int32, device=META)
    one = torch.empty(VALUES, dtype=torch.int32, device=META)
    known = DenseMasks(
        torch.empty(VALUES, VALUES, dtype=torch.int8, device=META), whole, one[: len(whole)], one, VALUES
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dense._known, masks, known)
        with PeakMemory() as memory:
            assert dense.entries(engine.store, *noisy(batch), masks).shape == (batch, VALUES)
    assert set(launched) == {"attend_masks"}
    assert memory.peak <= engine.store.placement.device_bytes


def test_windows_from_every_place_keep_to_what_is_said_of_memory(launched):
    engine, band = on_meta(20_000), Band((0, 64), (0, 64), 5, 5, (2, 2))
    where = [each.to(META) for each in band.places_in(SHAPE)]
    with PeakMemory() as memory:
        attention.moved_means(engine.store, *noisy(8192, 75), *where)
    assert set(launched) == {"attend"}
    assert memory.peak <= engine.store.placement.device_bytes


def test_more_noisy_images_than_a_device_counts_programs_go_in_pieces(launched):
    engine = on_meta(100, (1, 1, 1), work_bytes=2**40)
    one = torch.zeros(1, 1, dtype=torch.int32, device=META)
    assert len(attention.part_means(engine.store, *noisy(200_000, 1), Parts(one, one[0], one))) == 200_000
    assert len(launched) > 1


def test_weighted_sums_of_a_chunk(launched):
    images = torch.empty(2**16, VALUES, dtype=torch.int8, device=META)
    weights = torch.empty(300, len(images), dtype=torch.float64, device=META)
    assert two_passes.weighted_sums(weights, images).shape == (300, VALUES)
    assert launched == ["combine"]


@pytest.mark.slow
def test_images_beyond_32_bits_are_found(monkeypatch):
    # 132 images, each 16 MiB after the one before; only what is read is there.
    far, shape = 2**24, (1, 3, 4)
    images = random_set(0, 132, shape)
    bytes_near = torch.from_numpy(images.read(0, 132)).flatten(1).bitwise_xor(128).view(torch.int8)
    bytes_far = torch.empty(132, far, dtype=torch.int8)
    bytes_far[:, :12] = bytes_near
    sigmas = (0.3, 80.0)
    asked = question(between(images, sigmas), sigmas, "cpu")
    parts = Parts.of_windows(Windows(Window.inside(2, 3, 4), 3, 4), 1, torch.device("cpu"))
    for name, value in {"_IMAGES": (32, 32), "_TERMS": (32, 32), "_KEPT": (16, 16), "_PROGRAMS": 1}.items():
        monkeypatch.setattr(two_passes, name, value)
    monkeypatch.setattr(attention, "_PROGRAMS", 1)
    weights = torch.randn(2, 132, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = {}
    for name, held in {"near": bytes_near, "far": bytes_far}.items():
        store = Held(held)
        passed = two_passes.Questions(*asked, parts)
        passed.dimension = held.shape[1]
        floor = torch.full((6, 2), -torch.inf, dtype=torch.float64)
        found[name] = (
            attention._part_means(store, *asked, parts),
            passed.over(held, None, floor).values,
            two_passes.weighted_sums(weights, held[:, :12].contiguous()),
        )
    assert bytes_far.nbytes > 2**31
    for near, there in zip(found["near"], found["far"], strict=True):
        assert torch.equal(near, there)


class Held:
    """As much of a store as a pass looks at: one chunk."""

    work_bytes = 2**20

    def __init__(self, chunk):
        self.chunk = chunk

    def chunk_images(self, bytes_per_image):
        return len(self.chunk)

    def chunks(self, count):
        yield 0, self.chunk
