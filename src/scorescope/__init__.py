"""scorescope: does a diffusion model memorize or generalize its training set, and by which mechanism?

Images are float tensors ``(B, C, H, W)`` in [-1, 1]; ``sigma`` is the noise's standard deviation in that unit.
Everything that maps ``(noisy, sigma)`` to an estimate of the clean image is a `scorescope.denoisers.Denoiser`.
"""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("scorescope")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
