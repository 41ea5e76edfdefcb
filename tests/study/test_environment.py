"""What a report says about the machine, and what it must not say."""

import getpass
import platform
from pathlib import Path

import numpy
import torch

from scorescope.study.environment import device_name, environment, peak_memory


def test_versions_and_hardware_are_those_of_this_process():
    found = environment("cpu")
    assert found["torch"] == torch.__version__
    assert found["numpy"] == numpy.__version__
    assert found["Python"] == platform.python_version()
    assert found["device"] == "cpu"
    assert int(found["cores"]) >= 1
    assert all(isinstance(value, str) and value for value in found.values())


def test_nothing_names_a_person_a_machine_or_a_folder():
    text = " ".join(environment().values()).lower()
    for private in (getpass.getuser(), platform.node(), str(Path.home()), str(Path(__file__).parents[2])):
        assert len(private) < 3 or private.lower() not in text.split()
    assert "/" not in text.replace("w/", "")


def test_memory_grows_with_what_is_held():
    before = peak_memory()
    block = numpy.ones(32 * 2**20 // 8)
    assert peak_memory() >= before
    assert peak_memory() >= block.nbytes
    assert device_name("cpu") == "cpu"
