"""scorescope: does a diffusion model memorize or generalize its training set, and by which mechanism?

Images are float tensors ``(B, C, H, W)`` in [-1, 1]; ``sigma`` is the noise's standard deviation in that unit.
Everything that maps ``(noisy, sigma)`` to an estimate of the clean image is a `scorescope.denoisers.Denoiser`.

What the commands do, as functions for a notebook; importing the package imports nothing else::

    import scorescope as ss

    split = ss.images("fashion-mnist")
    patches = ss.denoiser("pspc-square", split)
    ss.sample(patches, 8)                                       # numbers and a picture
    ss.explain(ss.open("checkpoint/"), split, preset="tiny")    # the page
"""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.app.attribute import attribute
    from scorescope.app.audit import audit
    from scorescope.app.denoising import denoise, sample
    from scorescope.app.explore import explore
    from scorescope.app.opening import denoiser, images
    from scorescope.app.opening import open_network as open
    from scorescope.app.restoration import restore
    from scorescope.app.runs import demo, explain, reproduce, train
    from scorescope.foundation.version import __version__
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "__version__",
    "attribute",
    "audit",
    "demo",
    "denoise",
    "denoiser",
    "explain",
    "explore",
    "images",
    "open",
    "reproduce",
    "restore",
    "sample",
    "train",
]
