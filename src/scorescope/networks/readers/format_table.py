"""All formats of files with weights, in the order in which they are tried: the first one that recognizes a file reads it."""

from __future__ import annotations

from scorescope.networks.readers.bf_cnn_files import BF_CNN
from scorescope.networks.readers.ddpm import DDIM, PYTORCH_DDPM
from scorescope.networks.readers.edm2 import EDM2
from scorescope.networks.readers.formats import Format
from scorescope.networks.readers.guided import CONSISTENCY, FLOW_MATCHING, GUIDED, IMPROVED, TORCHCFM
from scorescope.networks.readers.infer import PUBLISHED
from scorescope.networks.readers.k_diffusion import K_DIFFUSION
from scorescope.networks.readers.lucidrains import LUCIDRAINS
from scorescope.networks.readers.score_sde import SCORE_SDE
from scorescope.networks.readers.sit import SIT

FORMATS: tuple[Format, ...] = (
    LUCIDRAINS,
    CONSISTENCY,
    FLOW_MATCHING,
    TORCHCFM,
    IMPROVED,
    GUIDED,
    DDIM,
    PYTORCH_DDPM,
    SCORE_SDE,
    EDM2,
    K_DIFFUSION,
    SIT,
    BF_CNN,
    *PUBLISHED,
)
