"""`explain` on a folder of diffusers with attention: every part of the page is there."""

import numpy as np
import pytest
import torch

from scorescope.data import import_images, open_source
from scorescope.jobs import explain
from scorescope.study.workspace import open_run

diffusers = pytest.importorskip("diffusers", reason="the optional package diffusers is not installed")


@pytest.mark.slow
def test_the_whole_page_of_a_unet_with_attention(tmp_path, digits):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 4),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
    )
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "model")
    np.save(tmp_path / "sixty.npy", digits.take(range(60)))
    import_images(open_source(tmp_path / "sixty.npy"), tmp_path / "sixty")
    config = explain.Explain.configure(
        "tiny", [f"model={tmp_path / 'model'}", f"data={tmp_path / 'sixty'}", "closer=locality,shrinkage"]
    )
    with open_run(tmp_path / "run", "main/explain", {}) as workspace:
        results = explain.Explain().run(config, workspace)
    assert "diffusers UNet2DModel" in results.methods["Model"]
    assert "Not measured" not in results.methods["Shrinkage"]
