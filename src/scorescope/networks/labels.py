"""Class labels as every conditional network here takes them.

Labels are integers (B,), and −1 stands for "no class", image by image; None means that no image has a class. What a network
makes of "no class" is its own: a vector of zeros (EDM), or a row of its table kept for that (DiT). Networks that never
saw an image without a class say so, and are not asked about one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scorescope.foundation import UserError

NO_CLASS = -1


@dataclass(frozen=True)
class Classes:
    """What a network knows of classes.

    Attributes:
        count: how many classes it was built for; 0 for a network that takes none.
        optional: whether it also works without a class.
    """

    count: int = 0
    optional: bool = True

    def check(self, label: int | None) -> None:
        """Raises UserError for a label that the network does not know, or for no label where it needs one."""
        if label is None:
            if not self.optional:
                raise UserError(
                    f"this network is conditional on {self.count} classes and does not work without one: choose a class"
                    f" label from 0 to {self.count - 1}"
                )
        elif not self.count:
            raise UserError(f"this network takes no class labels, found class label {label}: leave it out")
        elif not 0 <= label < self.count:
            raise UserError(
                f"this network knows {self.count} classes: choose a class label from 0 to {self.count - 1}, found {label}"
            )


def classes_of(network: nn.Module) -> Classes:
    """What a network says of its classes in its attribute ``classes``; one that says nothing takes none."""
    found = getattr(network, "classes", None)
    return found if isinstance(found, Classes) else Classes()


def fill_labels(class_labels: Tensor | None, batch: int, device: torch.device) -> Tensor:
    """Integer labels (B,), all of them `NO_CLASS` if there are none."""
    if class_labels is None:
        return torch.full((batch,), NO_CLASS, device=device)
    return class_labels.to(device)


def one_hot(class_labels: Tensor | None, count: int, batch: int, device: torch.device) -> Tensor:
    """Labels as float32 (B, count), one where the class is, zeros for no class.

    Args:
        class_labels: integers (B,), None, or already weights of the classes (B, count).
        count: number of classes.
        batch: B.
        device: where the result is.
    """
    if class_labels is not None and class_labels.ndim == 2:
        return class_labels.to(device, torch.float32)
    labels = fill_labels(class_labels, batch, device)
    return (labels[:, None] == torch.arange(count, device=device)).to(torch.float32)
