"""Train a network to denoise a set of images: the step, and runs that survive being killed."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.training.config import TrainingConfig
    from scorescope.training.loop import Step, Trainer
    from scorescope.training.objective import Objective
    from scorescope.training.run import Selection, TrainingJob, train_networks
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["Objective", "Selection", "Step", "Trainer", "TrainingConfig", "TrainingJob", "train_networks"]
