"""What people run: the demo, one model under the microscope, the training of a network."""

from scorescope.jobs.explain import Explain
from scorescope.jobs.train import Train
from scorescope.jobs.transition import Transition

__all__ = ["Explain", "Train", "Transition"]
