"""Published U-Nets of other projects open and denoise as their own code does: both weights, with and without a class."""

from __future__ import annotations

import pytest
import torch
from tests.networks.readers.foreign import TOLERANCE, errors

from scorescope.foundation import UserError
from scorescope.networks import open_checkpoint
from scorescope.networks.ddpm_unet import DDPMUNet

GUIDED, IMPROVED = "ema_0.9999_000010.pt", "improved-diffusion"
CASES = {
    "lucidrains-v-sigmoid": ("model-1.pt", None, {}),
    "lucidrains-eps-linear": ("model-1.pt", None, {}),
    "guided-cosine-classes": (
        GUIDED, None, {"num_head_channels": 8, "use_new_attention_order": True, "schedule": "cosine"}),
    "guided-linear-eps": (GUIDED, None, {"num_heads": 4}),
    "improved-cosine-4000": (GUIDED, IMPROVED, {"num_heads": 4}),
    "consistency-edm-classes": ("ema_0.9999432189950708_000010.pt", None, {"num_head_channels": 16}),
    "torchcfm-otcfm": ("otcfm_cifar10_weights_step_400000.pt", None, {"num_head_channels": 16}),
    "flow-matching-classes": ("checkpoint.pth", None, {"num_head_channels": 16}),
    "flow-matching-ema": ("checkpoint.pth", None, {}),
    "pytorch-ddpm-attention": ("ckpt.pt", None, {}),
    "golddiff-unet-bare": ("baseline_unet.pt", None, {}),
    "locality-unet-wrapped": ("fashion_mnist.pth", None, {}),
    "ddim-list-ema": ("ckpt.pth", None, {}),
    "ddim-bare-averaged": ("model-790000.ckpt", None, {}),
}  # fmt: skip
RAW_FILES = {"guided-cosine-classes": "model000010.pt", "guided-linear-eps": "model000010.pt"}
WITH_RAW = [
    "lucidrains-v-sigmoid", "lucidrains-eps-linear", "torchcfm-otcfm", "flow-matching-ema", "pytorch-ddpm-attention",
    "ddim-list-ema", *RAW_FILES,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_denoised_images_are_those_of_the_repository(foreign, case):
    file, architecture, arguments = CASES[case]
    opened = foreign.opened(case, file, architecture, **arguments)
    assert max(errors(opened, foreign.reference(case), "denoised")) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", WITH_RAW)
def test_raw_weights_are_taken_on_request(foreign, case):
    file, architecture, arguments = CASES[case]
    raw = {} if case in RAW_FILES else {"weights": "raw"}
    opened = foreign.opened(case, RAW_FILES.get(case, file), architecture, **arguments, **raw)
    assert max(errors(opened, foreign.reference(case), "denoised_raw")) < TOLERANCE
    if not raw:
        return
    averaged = foreign.opened(case, file, architecture, **arguments)
    assert (averaged.weights, opened.weights) == ("averaged", "raw")
    assert any("far apart" in note for note in averaged.notes)


def test_no_class_is_the_last_row_of_the_table(foreign):
    opened = foreign.opened("flow-matching-classes", "checkpoint.pth", num_head_channels=16)
    found = errors(opened, foreign.reference("flow-matching-classes"), "denoised_null", classless=True)
    assert max(found) < TOLERANCE


def test_a_class_is_asked_for_where_there_is_no_row_for_none(foreign):
    opened = foreign.opened("guided-cosine-classes", GUIDED, num_head_channels=8)
    with pytest.raises(UserError, match="conditional on 10 classes"):
        errors(opened, foreign.reference("guided-cosine-classes"), "denoised", classless=True)


def test_self_conditioning_is_zeros_unless_it_is_given(foreign):
    opened = foreign.opened("lucidrains-v-sigmoid", "model-1.pt")
    reference = foreign.reference("lucidrains-v-sigmoid")
    estimate = torch.from_numpy(reference["self_cond"])

    class Conditioned(torch.nn.Module):
        def forward(self, x, time, labels=None):
            return opened.network(x, time, labels, estimate)

    assert max(errors(opened, reference, "denoised_self_cond", network=Conditioned())) < TOLERANCE


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("lucidrains-v-sigmoid", "read: a schedule of 1,000 steps, objective v"),
        ("lucidrains-eps-linear", "read: a schedule of 250 steps, objective epsilon"),
        (
            "guided-linear-eps",
            "assumed: the old order of attention; noise prediction over the linear schedule of 1,000 steps",
        ),
        ("guided-linear-eps", "averaged weights, by its name"),
        ("flow-matching-ema", "averages without names, named by their order"),
        ("pytorch-ddpm-attention", "read: a table of 1,000 times, whole steps"),
        ("ddim-list-ema", "averaged weights, entry 4 of its list"),
    ],
)
def test_what_was_read_and_assumed_is_said(foreign, case, said):
    file, architecture, arguments = CASES[case]
    assert said in foreign.opened(case, file, architecture, **arguments).origin


def test_wrong_words_are_refused_in_one_line(foreign):
    for arguments, said in [
        ({"prediction": "noise"}, "prediction is 'noise'; allowed: epsilon, v"),
        ({"schedule": "quadratic"}, "schedule is 'quadratic'; allowed: linear, cosine"),
        ({"num_heads": 5}, "5 attention heads do not divide 64 channels"),
        ({"weights": "last"}, "weights are averaged or raw"),
        ({"prediction": "edm", "image_range": [0, 1]}, "image_range does not go with prediction=edm"),
        ({"nonsense": 3}, "nonsense"),
    ]:
        with pytest.raises(UserError, match=said) as caught:
            foreign.opened("guided-linear-eps", GUIDED, **arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "case", ["guided-linear-eps", "lucidrains-v-sigmoid", "ddim-list-ema", "pytorch-ddpm-attention"]
)
def test_a_size_that_cannot_be_halved_is_refused(foreign, case):
    file, architecture, arguments = CASES[case]
    with pytest.raises(UserError, match="--size N, a multiple of"):
        foreign.opened(case, file, architecture, **arguments, image_size=9)


def test_ddpm_files_without_attention_in_the_middle(tmp_path):
    sizes = {"in_channels": 1, "out_channels": 1, "model_channels": 32, "widths": [32, 64], "num_res_blocks": 1}
    network = DDPMUNet(**sizes, middle_attention=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05)
    torch.save(network.state_dict(), tmp_path / "ckpt.pth")
    opened = open_checkpoint(tmp_path / "ckpt.pth", sides=(8, 8))
    assert opened.config.arguments["middle_attention"] is False
    noisy, time = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 700.0])
    torch.testing.assert_close(opened.network(noisy, time), network.eval()(noisy, time))
