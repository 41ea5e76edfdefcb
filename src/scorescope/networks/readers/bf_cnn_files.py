"""Files of BF-CNN, of this project and of the lab that made it, under two sets of names.

Whether its first layer is followed by a ReLU leaves no trace in names or shapes. Files with the older names, ``running_sd.N``
and ``gammas.N``, are of a class that always has it. In the newer class it is an argument, ``first_layer_linear``, of which the
lab has published both: taken is the ReLU, as in Mohan et al., ICLR 2020, and in this project's own networks.
"""

from __future__ import annotations

import re

from scorescope.foundation import UserError
from scorescope.foundation.inert.stored_tensor import StoredTensor
from scorescope.networks.readers.formats import CheckpointFile, Format, Given, Reading
from scorescope.networks.readers.use import said_use

LINEAR = "first_layer_linear"


def _recognize(file: CheckpointFile) -> bool:
    return "conv_layers.0.weight" in file.tensors and (_is_old(file) or "BN_layers.0.gammas" in file.tensors)


def _is_old(file: CheckpointFile) -> bool:
    return file.has("running_sd.0", "gammas.0")


def _read(file: CheckpointFile, given: Given) -> Reading:
    tensors: dict[str, StoredTensor] = dict(file.tensors)
    old = _is_old(file)
    if old:
        names = ((re.fullmatch(r"(running_sd|gammas)\.(\d+)", name), name) for name in tensors)
        tensors = {
            (f"BN_layers.{match[2]}.{match[1]}" if match is not None else name): tensors[name] for match, name in names
        }
        given.left.setdefault(LINEAR, False)
        linear = given.take(LINEAR)
    else:
        said = f"a ReLU after the first layer ({LINEAR}=true for none)"
        linear = given.value(LINEAR, False, said, [{LINEAR: True}])
    if not isinstance(linear, bool):
        raise UserError(f"{LINEAR} is {linear!r}: give true or false")
    width, channels = tensors["conv_layers.0.weight"].shape[:2]
    layers = len([name for name in tensors if name.startswith("conv_layers.")])
    use = said_use(given)
    if use is None:
        given.assume("a blind network that predicts the noise of images on [0, 1]")
        use = "blind-residual", {}
    arguments = {"channels": channels, "width": width, "layers": layers, LINEAR: linear}
    read = ("the older names, with a ReLU after every layer",) if old else ()
    return Reading("bf-cnn", arguments | given.left, (channels, 0, 0), *use, tensors=tensors, read=read)


BF_CNN = Format("bf-cnn", "LabForComputationalVision; Mohan et al. 2020, Kadkhodaie et al. 2024", _recognize, _read)
