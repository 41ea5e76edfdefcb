"""One of our networks, built from recorded arguments and filled with the tensors of a file.

The arguments come from outside, so a network is first built without memory (on PyTorch's meta device) and compared with
the tensors, name by name and shape by shape. Only what fits them, and so is no larger than the file, is built for real.
Every value is copied into the network's own memory, one tensor at a time, and must be finite.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from scorescope.foundation import UserError
from scorescope.foundation.inert.stored_tensor import StoredTensor

# A block of any of our networks has at most three modules without weights to one with; a constructor that makes many
# more than the file has tensors is building another network.
MODULES_A_TENSOR, MODULES_ANYWAY = 6, 200
COPY_AGAIN = "copy or download it again"


class NotFiniteError(UserError):
    """A tensor of the file holds NaN or infinite values."""


class _TooManyModulesError(Exception):
    """Raised out of a constructor that builds more than the file can fill."""


def rebuild(
    build: Callable[[], nn.Module], tensors: Mapping[str, StoredTensor], described: str, remedy: str = COPY_AGAIN
) -> nn.Module:
    """Build a network and fill it.

    Args:
        build: makes the network, freshly initialized.
        tensors: exactly its parameters and persistent buffers, by name.
        described: the network in words, for messages ("SongUNet").
        remedy: what to do if they do not fit, for messages.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        UserError: the arguments build no network, or the tensors are missing, too many, of another shape or type,
            damaged or not finite.
    """
    _check_fit(_outline(build, len(tensors), described, remedy), tensors, described, remedy)
    network = build()
    with torch.no_grad():
        for name, target in network.state_dict().items():
            target.copy_(_finite(tensors[name].read(), name))
    return network.eval()


def _outline(build: Callable[[], nn.Module], tensor_count: int, described: str, remedy: str) -> dict[str, Tensor]:
    """Names, shapes and types that the network would have, at no cost."""
    allowed = MODULES_A_TENSOR * tensor_count + MODULES_ANYWAY
    thread, made = threading.get_ident(), 0

    def count(*_: Any) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > allowed:
            raise _TooManyModulesError

    watch = register_module_module_registration_hook(count)
    try:
        with torch.device("meta"):
            return build().state_dict()
    except UserError:
        raise
    except _TooManyModulesError as error:
        raise UserError(
            f"its {tensor_count} tensors are too few for the {described} that its arguments describe: {remedy}"
        ) from error
    except Exception as error:  # the arguments are the file's: whatever a constructor makes of them, it is their fault
        raise UserError(
            f"its arguments build no {described} ({type(error).__name__}: {str(error)[:200]}): {remedy}"
        ) from error
    finally:
        watch.remove()


def _check_fit(expected: Mapping[str, Tensor], found: Mapping[str, StoredTensor], described: str, remedy: str) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        parts = [
            f"{len(names)} {what} ({_first(names)})"
            for names, what in ((missing, "missing"), (extra, "not expected"))
            if names
        ]
        raise UserError(f"its tensors do not fit {described}: {' and '.join(parts)}; {remedy}")
    for name, wanted in expected.items():
        if tuple(wanted.shape) != found[name].shape:
            raise UserError(
                f"its tensors do not fit {described}: {name} has shape {found[name].shape}, needed is"
                f" {tuple(wanted.shape)}; {remedy}"
            )
        if wanted.dtype.is_floating_point != found[name].dtype.is_floating_point:
            raise UserError(
                f"its tensors do not fit {described}: {name} is {found[name].dtype}, needed is {wanted.dtype}; save it so"
            )


def _finite(tensor: Tensor, name: str) -> Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise NotFiniteError(
            f"its tensor {name} holds values that are not finite: the training diverged, use an earlier one"
        )
    return tensor


def _first(names: list[str]) -> str:
    return ", ".join(name[:60] for name in names[:3]) + (", …" if len(names) > 3 else "")
