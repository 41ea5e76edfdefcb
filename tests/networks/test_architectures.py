"""What every architecture must do, and what each is known for: sizes, locality, homogeneity, attention, classes."""

import math

import pytest
import torch
from tests.conftest import relative_error

from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import (
    BFCNN,
    MLP,
    Classes,
    DhariwalUNet,
    DiT,
    SongUNet,
    UNet,
    UViT,
    architectures,
    classes_of,
    preconditioning_from,
)
from scorescope.networks.edm_layers import BlockStyle, Start, UNetBlock
from scorescope.networks.labels import one_hot

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 16, 16)]
CONDITIONAL = {
    "song": lambda: SongUNet(8, 1, 1, label_dim=3, model_channels=8, channel_mult=[1], num_blocks=1, label_dropout=0.1),
    "adm": lambda: DhariwalUNet(
        8, 1, 1, label_dim=3, model_channels=8, channel_mult=[1], num_blocks=1, label_dropout=0.1
    ),
    "dit": lambda: DiT(8, 4, 1, hidden_size=16, depth=1, num_heads=2, num_classes=3, learn_sigma=False),
    "uvit": lambda: UViT(8, 4, 1, embed_dim=16, depth=2, num_heads=2, num_classes=3, mlp_time_embed=True),
    "mlp": lambda: MLP((1, 8, 8), width=16, depth=1, num_classes=3),
}


def shaken(network, seed=0):
    """The network with all weights moved, so that nothing is zero because it starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# the others are opened from checkpoints only, and tested there
TRAINED = [name for name, entry in architectures.items() if entry.trained_here]


def build(name, shape):
    entry = architectures[name]
    network = entry.build(**entry.arguments_for(shape))
    return NetworkDenoiser(network, entry.preconditioning, shape, (0.002, 80.0), name=name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TRAINED)
def test_every_architecture_fits_usual_images_and_denoises(name, shape):
    denoiser = build(name, shape)
    with torch.no_grad():
        denoised = denoiser(noise(2, *shape) * torch.tensor([1, 80.0]).reshape(2, 1, 1, 1), torch.tensor([0.002, 80.0]))
    assert denoised.shape == (2, *shape)
    assert bool(torch.isfinite(denoised).all())
    count = sum(parameter.numel() for parameter in denoiser.parameters())
    assert 50_000 < count < 1_000_000, "small enough to train on a CPU"


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_weight(name):
    denoiser = build(name, (1, 16, 16))
    network = shaken(denoiser.network).train()
    denoiser(noise(2, 1, 16, 16), torch.tensor([0.1, 2.0])).square().sum().backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert bool(torch.isfinite(parameter.grad).all()), key
            assert parameter.ndim < 2 or bool((parameter.grad != 0).any()), key


@pytest.mark.parametrize("name", TRAINED)
def test_mixed_noise_levels_in_a_batch_are_those_one_by_one(name):
    denoiser = build(name, (1, 16, 16))
    shaken(denoiser.network).double()
    noisy, sigma = noise(4, 1, 16, 16, dtype=torch.float64), torch.tensor([0.01, 0.4, 3.0, 60.0], dtype=torch.float64)
    with torch.no_grad():
        together = denoiser(noisy, sigma)
        alone = torch.cat([denoiser(noisy[i : i + 1], sigma[i]) for i in range(4)])
    assert relative_error(together, alone) < 1e-12


@pytest.mark.parametrize("name", [name for name in TRAINED if not build(name, (1, 16, 16)).blind])
def test_the_noise_level_matters_and_second_derivatives_exist(name):
    denoiser = build(name, (1, 16, 16))
    network = shaken(denoiser.network).double()
    x = noise(1, 1, 16, 16, dtype=torch.float64)
    at = [network(x, torch.tensor([level], dtype=torch.float64)) for level in (-1.0, 0.5)]
    assert relative_error(at[0].detach(), at[1].detach()) > 1e-4
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, torch.zeros(1, dtype=x.dtype)).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert bool(torch.isfinite(second).all())


@pytest.mark.parametrize("name", TRAINED)
def test_nothing_stays_on_another_device_than_the_images(name):
    with torch.device("meta"):
        entry = architectures[name]
        network = entry.build(**entry.arguments_for((1, 16, 16)))
        noisy, sigma = torch.zeros(2, 1, 16, 16), torch.ones(2)
    denoised = preconditioning_from(entry.preconditioning).denoise(network, noisy, sigma)
    assert (denoised.device.type, denoised.shape) == ("meta", (2, 1, 16, 16))


@pytest.mark.parametrize("name", TRAINED)
def test_mixed_precision_is_near_single_precision(name):
    denoiser = build(name, (1, 16, 16))
    shaken(denoiser.network)
    noisy, sigma = noise(2, 1, 16, 16), torch.tensor([0.5, 2.0])
    with torch.no_grad():
        single = denoiser(noisy, sigma)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = denoiser(noisy, sigma)
    assert mixed.dtype == torch.float32
    assert 0 < relative_error(mixed, single) < 0.05


@pytest.mark.parametrize("network", [UNet(1, 8, 2), BFCNN(1, 8, 6)], ids=["unet", "bf-cnn"])
def test_bias_free_denoisers_are_homogeneous(network):
    network = shaken(network).double().eval()
    noisy = noise(2, 1, 16, 16, dtype=torch.float64)

    def denoise(images):
        return (images - network(images)).detach()

    for factor in (0.01, 3.7):
        assert relative_error(denoise(factor * noisy), factor * denoise(noisy)) < 1e-12


def test_bf_cnn_sees_a_window():
    network = BFCNN(1, 8, 3).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()  # so that no ReLU is closed
    noisy = torch.ones(1, 1, 15, 15, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(noisy)[0, 0, 7, 7], noisy)
    window = torch.zeros(15, 15, dtype=torch.bool)
    window[4:11, 4:11] = True
    assert torch.equal(gradient[0, 0] != 0, window)
    with pytest.raises(UserError, match="at least 2 layers"):
        BFCNN(layers=1)


@pytest.mark.slow
def test_published_sizes():
    def millions(network):
        return round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1)

    with torch.device("meta"):
        assert millions(BFCNN()) == 0.7
        assert millions(SongUNet(32, 3, 3, augment_dim=9, channel_mult=[2, 2, 2])) == 55.7  # CIFAR-10
        assert millions(DhariwalUNet(64, 3, 3, label_dim=1000)) == 295.9  # ImageNet-64
        assert millions(DiT()) == 675.1  # XL/2 on 32×32 latents
        assert millions(UViT(32, 2, 3, 512, depth=12, num_heads=8)) == 44.3  # CIFAR-10


def test_adm_has_the_published_names():
    network = DhariwalUNet(
        16, 3, 6, label_dim=5, augment_dim=4, model_channels=32, channel_mult=[1, 4], num_blocks=1, attn_resolutions=[8]
    )
    state = network.state_dict()
    shapes = {
        "map_augment.weight": (32, 4),
        "map_layer0.weight": (128, 32),
        "map_layer1.bias": (128,),
        "map_label.weight": (128, 5),
        "enc.16x16_conv.weight": (32, 3, 3, 3),
        "enc.16x16_block0.affine.weight": (64, 128),
        "enc.8x8_down.conv0.resample_filter": (1, 1, 2, 2),
        "enc.8x8_down.skip.resample_filter": (1, 1, 2, 2),
        "enc.8x8_block0.qkv.weight": (384, 128, 1, 1),
        "enc.8x8_block0.skip.weight": (128, 32, 1, 1),
        "dec.8x8_in0.proj.weight": (128, 128, 1, 1),
        "dec.8x8_block0.norm0.weight": (256,),
        "dec.8x8_block1.norm0.weight": (160,),
        "dec.16x16_up.conv0.weight": (128, 128, 3, 3),
        "dec.16x16_block1.conv0.weight": (32, 64, 3, 3),
        "out_norm.weight": (32,),
        "out_conv.weight": (6, 32, 3, 3),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    absent = ["map_label.bias", "map_augment.bias", "enc.8x8_down.skip.weight", "dec.8x8_in1.qkv.weight"]
    assert not [key for key in (*absent, "enc.16x16_block0.qkv.weight") if key in state]
    assert [block.heads for block in network.modules() if isinstance(block, UNetBlock) and block.heads] == [2, 2, 2, 2]


def test_adm_predicts_twice_the_channels_if_asked_and_the_denoiser_takes_the_first():
    network = shaken(DhariwalUNet(8, 1, 2, model_channels=8, channel_mult=[1], num_blocks=1))
    with torch.no_grad():
        assert network(noise(2, 1, 8, 8), torch.zeros(2)).shape == (2, 2, 8, 8)
        assert NetworkDenoiser(network, "iddpm", (1, 8, 8), (0, 1))(noise(2, 1, 8, 8), 1.0).shape == (2, 1, 8, 8)


def test_networks_without_attention_are_the_others_less_attention():
    entry = architectures["ddpm++-no-attention"]
    arguments = entry.arguments_for((1, 16, 16))
    without, usual = entry.build(**arguments), entry.build(**arguments | {"attention": True})
    dropped = set(usual.state_dict()) - set(without.state_dict())
    assert set(without.state_dict()) < set(usual.state_dict())
    assert {key.split(".")[-2] for key in dropped} == {"norm2", "qkv", "proj"}


@pytest.mark.parametrize(("encoder", "decoder"), [("skip", "skip"), ("residual", "skip"), ("skip", "standard")])
def test_every_encoder_and_decoder_type_works(encoder, decoder):
    kinds = {"encoder_type": encoder, "decoder_type": decoder, "resample_filter": [1, 3, 3, 1]}
    network = shaken(SongUNet(16, 2, 3, model_channels=8, channel_mult=[1, 1, 2], num_blocks=1, **kinds))
    network(noise(2, 2, 16, 16), torch.zeros(2)).square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in network.parameters() if p.ndim >= 2)
    names = " ".join(network.state_dict())
    assert ("aux_skip" in names) == (encoder == "skip")
    assert ("8x8_aux_conv" in names) == (decoder == "skip")


STYLE = BlockStyle(
    emb_channels=6,
    heads=2,
    dropout=0.0,
    skip_scale=0.5,
    epsilon=1e-5,
    resample_filter=(1, 1),
    resample_proj=False,
    adaptive_scale=True,
    start=Start(),
    start_zero=Start(),
    start_attention=Start(),
)


def test_block_of_adm_and_its_two_heads_agree_with_a_slow_version():
    block = UNetBlock(8, 8, STYLE, attention=True).double().eval()
    x, embedding = noise(2, 8, 3, 3, dtype=torch.float64), noise(2, 6, seed=1, dtype=torch.float64)

    def normalized(images, norm):  # two groups of four channels
        groups = images.reshape(2, 2, 4, 3, 3)
        mean, variance = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), unbiased=False, keepdim=True)
        unit = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(images.shape)
        return unit * norm.weight.reshape(1, 8, 1, 1) + norm.bias.reshape(1, 8, 1, 1)

    silu, conv = torch.nn.SiLU(), torch.nn.functional.conv2d
    inner = conv(silu(normalized(x, block.norm0)), block.conv0.weight, block.conv0.bias, padding=1)
    scale, shift = (embedding @ block.affine.weight.T + block.affine.bias)[:, :, None, None].chunk(2, 1)
    inner = silu(normalized(inner, block.norm1) * (1 + scale) + shift)
    middle = (conv(inner, block.conv1.weight, block.conv1.bias, padding=1) + x) * 0.5
    qkv = conv(normalized(middle, block.norm2), block.qkv.weight, block.qkv.bias)
    attended = torch.zeros_like(middle)
    for b in range(2):
        for head in range(2):
            # the published order of the 24 outputs: head, then channel, then query, key, value
            query, key, value = (qkv[b, 12 * head + which : 12 * head + 12 : 3].reshape(4, 9) for which in range(3))
            weights = torch.softmax(query.T @ key / math.sqrt(4), dim=1)
            attended[b, 4 * head : 4 * head + 4] = (value @ weights.T).reshape(4, 3, 3)
    expected = (middle + conv(attended, block.proj.weight, block.proj.bias)) * 0.5
    assert relative_error(block(x, embedding).detach(), expected.detach()) < 1e-12


def test_resampling_keeps_a_constant_image_and_its_place():
    up = UNetBlock(4, 4, STYLE, up=True).skip
    ramp = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 4, 4, 4)
    assert torch.equal(up(ramp)[0, 0, 0], torch.arange(4.0).repeat_interleave(2))
    down = UNetBlock(4, 4, STYLE, down=True).skip
    assert torch.equal(down(up(ramp)), ramp)


@pytest.mark.parametrize("name", list(CONDITIONAL))
def test_classes_change_the_output_and_each_image_has_its_own(name):
    network = shaken(CONDITIONAL[name]()).eval()
    x, level, labels = noise(3, 1, 8, 8), torch.zeros(3), torch.tensor([2, 0, 1])
    assert classes_of(network).count == 3
    with torch.no_grad():
        together = network(x, level, labels)
        alone = torch.cat([network(x[i : i + 1], level[:1], labels[i : i + 1]) for i in range(3)])
        assert relative_error(together, alone) < 1e-5
        assert relative_error(network(x, level, torch.tensor([1, 1, 1])), together) > 1e-4


@pytest.mark.parametrize("name", [name for name in CONDITIONAL if name != "uvit"])
def test_no_class_is_minus_one_or_nothing(name):
    network = shaken(CONDITIONAL[name]()).eval()
    x, level = noise(2, 1, 8, 8), torch.zeros(2)
    assert classes_of(network).optional
    with torch.no_grad():
        without = network(x, level)
        assert torch.equal(network(x, level, torch.tensor([-1, -1])), without)
        assert torch.allclose(network(x, level, torch.tensor([1, -1]))[1], without[1], atol=1e-6)
        assert relative_error(network(x, level, torch.tensor([1, 1])), without) > 1e-4


def test_uvit_has_only_the_parts_that_were_asked_for():
    usual = set(UViT(8, 4, 1, embed_dim=16, depth=2, num_heads=2).state_dict())
    bare = set(UViT(8, 4, 1, embed_dim=16, depth=2, num_heads=2, conv=False, skip=False).state_dict())
    rich = set(UViT(8, 4, 1, 16, 2, 2, qkv_bias=True, mlp_time_embed=True, num_classes=3, qk_scale=0.1).state_dict())
    assert usual - bare == {
        "out_blocks.0.skip_linear.weight",
        "out_blocks.0.skip_linear.bias",
        "final_layer.weight",
        "final_layer.bias",
    }
    assert bare < usual < rich
    assert {key.rsplit(".", 1)[0] for key in rich - usual} == {
        "in_blocks.0.attn.qkv",
        "mid_block.attn.qkv",
        "out_blocks.0.attn.qkv",
        "time_embed.0",
        "time_embed.2",
        "label_emb",
    }


def test_networks_that_never_saw_an_image_without_a_class_say_so():
    for network in (
        SongUNet(8, 1, 1, label_dim=4, model_channels=8, channel_mult=[1], num_blocks=1),
        DhariwalUNet(8, 1, 1, label_dim=4, model_channels=8, channel_mult=[1], num_blocks=1),
        DiT(8, 4, 1, hidden_size=16, depth=1, num_heads=2, num_classes=4, class_dropout_prob=0),
        UViT(8, 4, 1, embed_dim=16, depth=2, num_heads=2, num_classes=4),
    ):
        assert classes_of(network) == Classes(4, optional=False)
    with pytest.raises(UserError, match="4 classes"):
        network(noise(1, 1, 8, 8), torch.zeros(1))


def test_classes_may_be_given_as_weights_as_published():
    network = shaken(CONDITIONAL["song"]()).eval()
    x, level, labels = noise(2, 1, 8, 8), torch.zeros(2), torch.tensor([2, 0])
    with torch.no_grad():
        assert torch.equal(network(x, level, torch.eye(3)[labels]), network(x, level, labels))
    assert one_hot(None, 3, 2, torch.device("cpu")).sum() == 0


def test_augmentation_vectors_are_read_where_there_are_any():
    for network in (
        SongUNet(8, 1, 1, augment_dim=2, model_channels=8, channel_mult=[1], num_blocks=1),
        DhariwalUNet(8, 1, 1, augment_dim=2, model_channels=8, channel_mult=[1], num_blocks=1),
    ):
        shaken(network).eval()
        x, level = noise(1, 1, 8, 8), torch.zeros(1)
        with torch.no_grad():
            plain, turned = network(x, level), network(x, level, None, torch.ones(1, 2))
            assert torch.allclose(network(x, level, None, torch.zeros(1, 2)), plain, atol=1e-6)
        assert relative_error(turned, plain) > 1e-4


@pytest.mark.parametrize(
    ("side", "blocks"), [(20, 1), (40, 2), (80, 3), (160, 4), (28, 2), (32, 2), (16, 1), (8, 1), (90, 1)]
)
def test_unet_has_the_blocks_of_the_paper(side, blocks):
    assert architectures["unet"].arguments_for((1, side, side))["blocks"] == blocks


@pytest.mark.parametrize("side", [7, 12, 15, 20, 24, 48, 64])
def test_unusual_sides_are_fitted(side):
    for name in ("bf-cnn", "ddpm++", "ncsn++", "adm", "dit", "u-vit", "mlp"):
        denoiser = build(name, (1, side, side))
        with torch.no_grad():
            assert denoiser(noise(1, 1, side, side), 1.0).shape == (1, 1, side, side)


def test_points_in_the_plane():
    denoiser = build("mlp", (1, 1, 2))
    shaken(denoiser.network)
    with torch.no_grad():
        assert denoiser(noise(5, 1, 1, 2), 0.3).shape == (5, 1, 1, 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: SongUNet(8, 1, 1, model_channels=8)(noise(1, 1, 12, 12), torch.zeros(1)), "divisible by 8"),
        (lambda: DiT(9, 2), "do not divide into patches"),
        (lambda: DiT(8, 4, 1, 8, 1, 3), "3 heads"),
        (lambda: DiT(8, 4, 1, 10, 1, 2), "multiple of 4"),
        (lambda: DiT(8, 4, 1, 16, 1, 2)(noise(1, 1, 12, 12), torch.zeros(1)), "8×8, found"),
        (lambda: MLP((1, 8, 8))(noise(1, 1, 4, 4), torch.zeros(1)), r"\(1, 8, 8\)"),
        (lambda: SongUNet(8, 1, 1, encoder_type="other"), "standard, skip, residual"),
        (lambda: SongUNet(8, 1, 1, embedding_type="other"), "positional, fourier"),
        (lambda: architectures["unet"].arguments_for((1, 15, 15)), "even sides, found 15×15"),
        (lambda: architectures["dit"].arguments_for((1, 8, 16)), "square images"),
        (lambda: architectures["u-vit"].arguments_for((1, 8, 16)), "square images"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(UserError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
