"""Train a network to denoise a set of images: the step, and runs that survive being killed."""

from scorescope.training.config import TrainingConfig
from scorescope.training.loop import Step, Trainer
from scorescope.training.objective import Objective
from scorescope.training.run import Selection, TrainingJob, train_networks

__all__ = ["Objective", "Selection", "Step", "Trainer", "TrainingConfig", "TrainingJob", "train_networks"]
