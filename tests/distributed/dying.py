"""A plugin: a denoiser that computes the optimal one, and takes a process with it where the environment says so."""

import os
import signal

from scorescope.denoisers import Denoiser, OptimalDenoiser, training_free
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
        return self.optimal(noisy, sigma)
