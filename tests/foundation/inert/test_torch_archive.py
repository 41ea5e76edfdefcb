"""Both formats of ``torch.save`` are read as ``torch.load(weights_only=True)`` reads them, and damage is refused."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
import torch
from tests.networks.readers.files import archive

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import Budget
from scorescope.foundation.inert.torch_archive import is_archive, read_archive
from scorescope.networks.readers.state_dict import read_torch_state_dict

VALUES = {
    "matrix": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "transposed": torch.arange(24.0).reshape(4, 6).t(),
    "strided": torch.arange(20)[3:17:4],
    "scalar": torch.tensor(7),
    "empty": torch.empty(0, 3),
    "channels last": torch.arange(48.0).reshape(1, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "double": torch.tensor([1e-300], dtype=torch.float64),
    "bool": torch.tensor([True, False]),
    "bytes": torch.tensor([0, 255], dtype=torch.uint8),
    "short": torch.tensor([-3], dtype=torch.int16),
    "infinite": torch.tensor([float("inf"), float("nan")]),
}
SHARED = torch.arange(6.0)


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_numbers_are_those_of_torch_load(as_zip):
    data = archive(VALUES | {"tied": SHARED, "tied too": SHARED[2:]}, as_zip=as_zip)
    expected = torch.load(io.BytesIO(data), weights_only=True)
    found = read_torch_state_dict(memoryview(data), Budget()).tensors
    assert list(found) == list(expected)
    for name, tensor in found.items():
        read = tensor.read()
        assert read.dtype == expected[name].dtype == tensor.dtype
        assert read.shape == expected[name].shape == tensor.shape
        assert read.is_contiguous()
        assert torch.equal(torch.nan_to_num(read), torch.nan_to_num(expected[name]))


def test_tensors_own_their_memory():
    data = bytearray(archive({"weight": torch.ones(4)}))
    tensor = read_torch_state_dict(memoryview(bytes(data)), Budget()).tensors["weight"]
    first = tensor.read()
    first.zero_()
    assert bool((tensor.read() == 1).all())


def rezipped(data: bytes, compression: int = zipfile.ZIP_STORED, **replaced: bytes) -> bytes:
    """The same archive written by Python's zip module, with other contents where they are given."""
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as target:
        for name in source.namelist():
            target.writestr(
                name, replaced.get(name.partition("/")[2].replace("/", "_").replace(".", "_"), source.read(name))
            )
    return out.getvalue()


def test_an_archive_of_another_zip_writer_opens():
    data = rezipped(archive({"weight": torch.ones(3)}))
    assert read_torch_state_dict(memoryview(data), Budget()).tensors["weight"].read().tolist() == [1, 1, 1]


def test_a_zip_bomb_is_refused_without_being_unpacked():
    bomb = rezipped(archive({"weight": torch.zeros(1_000_000)}), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    with pytest.raises(UserError, match="zip bomb"):
        read_torch_state_dict(memoryview(bomb), Budget())


def test_a_claimed_size_is_not_believed():
    data = bytearray(rezipped(archive({"weight": torch.zeros(4)})))
    directory = data.rfind(b"PK\x01\x02", 0, data.find(b"data/0", data.find(b"PK\x01\x02")))
    data[directory + 20 : directory + 28] = struct.pack("<II", 2**31, 2**31)
    with pytest.raises(UserError, match="beyond the end"):
        read_torch_state_dict(memoryview(bytes(data)), Budget())


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_every_truncation_is_refused(as_zip):
    data = archive({"weight": torch.ones(8), "bias": torch.zeros(2)}, as_zip=as_zip)
    for length in range(1, len(data)):
        with pytest.raises(UserError):
            read_torch_state_dict(memoryview(data[:length]), Budget())


def test_damaged_weights_are_noticed_by_their_checksum():
    data = bytearray(archive({"weight": torch.ones(64)}))
    place = bytes(data).find(struct.pack("<f", 1.0) * 8)
    data[place] ^= 1
    tensor = read_torch_state_dict(memoryview(bytes(data)), Budget()).tensors["weight"]
    with pytest.raises(UserError, match="checksum"):
        tensor.read()


def test_archives_without_checksums_open():
    data = bytearray(archive({"weight": torch.ones(2)}))
    place = 0
    while (place := data.find(b"PK\x01\x02", place)) >= 0:
        data[place + 16 : place + 20] = bytes(4)
        place += 4
    assert read_torch_state_dict(memoryview(bytes(data)), Budget()).tensors["weight"].read().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (torch.zeros(1).expand(1 << 30), "more than the"),
        (torch.zeros(4, 1).expand(4, 1000), "more than the"),
    ],
)
def test_a_tensor_that_unfolds_beyond_its_bytes_is_refused(view, said):
    with pytest.raises(UserError, match=said):
        read_torch_state_dict(memoryview(archive({"weight": view})), Budget())


def test_many_tensors_over_the_same_bytes_are_refused():
    base = torch.zeros(10_000)
    with pytest.raises(UserError, match="unfold"):
        read_torch_state_dict(memoryview(archive({f"w{n}": base[:] for n in range(100)})), Budget())


def test_other_files_are_no_archives():
    for data in (b"", b"PK", b"\x80\x04N.", b"GIF89a" * 10):
        assert not is_archive(memoryview(data))
        with pytest.raises(UserError, match="wrong first bytes"):
            read_archive(memoryview(data), None, Budget())
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match=r"not one of torch\.save"):
        read_archive(memoryview(other.getvalue()), None, Budget())


def test_a_big_endian_archive_is_refused():
    data = archive({"weight": torch.ones(2)})
    with pytest.raises(UserError, match="big-endian"):
        read_archive(memoryview(rezipped(data, byteorder=b"big")), None, Budget())


def test_wrappers_and_prefixes_are_taken_off_and_said():
    weights = {"module.weight": torch.ones(2), "module.bias": torch.zeros(2)}
    found = read_torch_state_dict(
        memoryview(archive({"model": {"weight": torch.zeros(2)}, "ema": weights, "step": 7})), Budget()
    )
    assert set(found.tensors) == {"weight", "bias"}
    assert found.tensors["weight"].read().tolist() == [1, 1]
    assert "'ema' (not model, step)" in found.taken
    assert "'module.'" in found.taken


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "holds no state dictionary"),
        ([torch.ones(2)], "holds no state dictionary"),
        ({"epoch": 3, "loss": 0.5}, "holds epoch, loss"),
        ([{"lr": 1.0}, 3], "holds no state dictionary"),
    ],
)
def test_files_without_a_state_dictionary_are_refused(value, said):
    with pytest.raises(UserError, match=said):
        read_torch_state_dict(memoryview(archive(value)), Budget())


def test_a_whole_module_is_read_as_its_state_dictionary():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm2d(3)))
    module.register_buffer("passing", torch.ones(2), persistent=False)
    found = read_torch_state_dict(memoryview(archive({"model": module, "epoch": 3})), Budget()).tensors
    expected = module.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(tensor.read(), expected[name]) for name, tensor in found.items())


def test_numbers_that_weights_cannot_be_are_refused():
    with pytest.raises(UserError, match="ComplexFloatStorage"):
        read_torch_state_dict(memoryview(archive({"weight": torch.zeros(2, dtype=torch.complex64)})), Budget())
    with pytest.raises(UserError, match="float8"):
        read_torch_state_dict(memoryview(archive({"weight": torch.zeros(2, dtype=torch.float8_e4m3fn)})), Budget())
