"""Noise levels and forward inputs. A noise level is sigma, the standard deviation of the noise added to images in [-1, 1]."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.noise.forward import add_noise, check_sigmas
    from scorescope.noise.levels import ddpm_sigmas, edm_sigmas, log_spaced_sigmas, vp_sigmas
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["add_noise", "check_sigmas", "ddpm_sigmas", "edm_sigmas", "log_spaced_sigmas", "vp_sigmas"]
