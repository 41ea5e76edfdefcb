"""Ways of looking at a model: what is measured on it, and how that is shown. A lens of one's own is one module."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.lenses.base import DERIVATIVE, HELD_OUT, SECOND, Lens, lens, lenses, look
    from scorescope.lenses.drawing import draw_samples
    from scorescope.lenses.explorer import Explorer
    from scorescope.lenses.locality import Locality
    from scorescope.lenses.mechanisms import MechanismsLens
    from scorescope.lenses.memorization import MemorizationLens
    from scorescope.lenses.samples import Samples
    from scorescope.lenses.settings import LensSettings, MeasurementConfig
    from scorescope.lenses.shrinkage import Shrinkage
    from scorescope.lenses.subject import Subject, Trained, chosen
    from scorescope.lenses.variance import Variance
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "DERIVATIVE",
    "HELD_OUT",
    "SECOND",
    "Explorer",
    "Lens",
    "LensSettings",
    "Locality",
    "MeasurementConfig",
    "MechanismsLens",
    "MemorizationLens",
    "Samples",
    "Shrinkage",
    "Subject",
    "Trained",
    "Variance",
    "chosen",
    "draw_samples",
    "lens",
    "lenses",
    "look",
]
