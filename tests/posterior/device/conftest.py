"""Where the device engine is tested: on tensors in memory, and on a CUDA device where there is one."""

from __future__ import annotations

import pytest
import torch

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is present")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=cuda)])
def device(request):
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tensors here are so small that waiting for a second thread takes most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
