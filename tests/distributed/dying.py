"""A plugin: a denoiser that computes the optimal one, and ends a process in the way that the environment names."""

import os
import signal

from scorescope.denoisers import Denoiser, OptimalDenoiser, training_free
from scorescope.foundation import UserError
from scorescope.foundation.processes import process_index


@training_free("dying", explanation="an end", needs="training images")
class Dying(Denoiser):
    """See above."""

    def __init__(self, images):
        super().__init__(images.image_shape)
        self.optimal = OptimalDenoiser(images)

    def denoise(self, noisy, sigma):
        if os.environ.get("DYING") == str(process_index()):
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("REFUSING") == str(process_index()):
            raise UserError("the disk of this host is full")
        if os.environ.get("FAILING") == str(process_index()):
            raise ZeroDivisionError("a bug")
        return self.optimal(noisy, sigma)
