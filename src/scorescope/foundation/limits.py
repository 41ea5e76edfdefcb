"""How large the numbers of a command line may be: beyond these, memory or time would have no bound.

Nothing heavy is imported here, because the parser of the command line reads them.
"""

LARGEST_SEED = 2**63 - 1  # what PyTorch takes
LARGEST_COUNT = 10_000_000  # of images that one command draws or denoises, in batches
LARGEST_SIDE = 8192  # of an image, in pixels
MOST_LEVELS = 100_000  # noise levels of one schedule
MOST_ASCENT_STEPS = 1_000_000  # of a stochastic ascent with an exact denoiser
