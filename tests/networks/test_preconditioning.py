"""Preconditionings and adapters: with an exact network for Gaussian data, each gives the Gaussian's exact posterior mean."""

import json
import math

import numpy as np
import pytest
import torch
from tests.conftest import relative_error
from torch import nn

from scorescope.foundation import UserError
from scorescope.networks import MLP, NetworkConfig, UNet, preconditioning_from, preconditionings
from scorescope.networks.times import StepTable

SHAPE, DIMENSION = (1, 2, 3), 6
SIGMAS = torch.tensor([0.0123, 0.05, 0.3333, 1.0, 4.2, 37.7], dtype=torch.float64)


def gaussian():
    """Mean (6,) and covariance (6, 6), in units of [-1, 1], float64."""
    random = np.random.default_rng(5)
    factor = random.normal(size=(DIMENSION, DIMENSION)) * 0.4
    return torch.from_numpy(random.normal(size=DIMENSION) * 0.3), torch.from_numpy(factor @ factor.T)


def wiener(noisy, sigma):
    """E[x | x + σ n] image by image."""
    mean, covariance = gaussian()
    identity = torch.eye(DIMENSION, dtype=torch.float64)
    rows = [
        mean + covariance @ torch.linalg.solve(covariance + level**2 * identity, image.reshape(-1) - mean)
        for image, level in zip(noisy, sigma, strict=True)
    ]
    return torch.stack(rows).reshape(noisy.shape)


class Exact(nn.Module):
    """What a perfect network predicts of ``z = α x + s n`` at time t, for Gaussian x in a range of its own.

    Args:
        predicts: ``epsilon``, ``sample``, ``v``, ``score``, ``velocity`` or ``minus epsilon``.
        amounts: the network's own knowledge of its process: t -> (α, s).
        low: where the range of its images begins.
        high: where it ends.
    """

    def __init__(self, predicts, amounts, low=-1.0, high=1.0):
        super().__init__()
        mean, covariance = gaussian()
        half = (high - low) / 2
        self.mean, self.covariance = low + half * (mean + 1), half**2 * covariance
        self.predicts, self.amounts = predicts, amounts

    def forward(self, images, times, class_labels=None):
        return torch.stack([self.one(z, float(t)) for z, t in zip(images, times, strict=True)])

    def one(self, image, time):
        signal, spread = self.amounts(time)
        z = image.reshape(-1)
        total = signal**2 * self.covariance + spread**2 * torch.eye(DIMENSION, dtype=torch.float64)
        away = torch.linalg.solve(total, z - signal * self.mean)
        x = self.mean + signal * self.covariance @ away
        n = spread * away
        return {
            "epsilon": n,
            "minus epsilon": -n,
            "sample": x,
            "v": signal * n - spread * x,
            "score": -away,
            "velocity": x - n,
            "minus velocity": n - x,
        }[self.predicts].reshape(image.shape)


def preserving(sigma_of_time):
    """(α, s) with α² + s² = 1 from σ(t)."""

    def amounts(time):
        sigma = sigma_of_time(time)
        return 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)

    return amounts


def vp_sigma(time):
    return math.sqrt(math.exp(19.9 * time**2 / 2 + 0.1 * time) - 1)


def linear_table(steps=1000, low=1e-4, high=0.02):
    return np.cumprod(1 - np.linspace(low, high, steps))


def scaled_linear_table():
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


def cosine_table():
    signal = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - signal[1:] / signal[:-1], 0.999))


def sigma_between(signal, first=0):
    """σ of a possibly fractional step: linear in log σ."""
    levels = np.log((1 - signal) / signal) / 2
    return lambda time: math.exp(np.interp(time - first, np.arange(len(levels)), levels))


def denoised(preconditioning, network, sigmas=SIGMAS):
    noise = torch.randn(len(sigmas), *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = (0.5 + sigmas).reshape(-1, 1, 1, 1) * noise
    return preconditioning.denoise(network, noisy, sigmas), wiener(noisy, sigmas)


STRAIGHT = {"kind": "flow"}
ADAPTERS = [
    ("vp", {}, "epsilon", preserving(lambda t: vp_sigma(t / 999))),
    (
        "vp",
        {"beta_d": 8.0, "beta_min": 0.2, "steps": 11},
        "epsilon",
        preserving(lambda t: math.sqrt(math.exp(8 * (t / 10) ** 2 / 2 + 0.2 * t / 10) - 1)),
    ),
    ("ve", {}, "minus epsilon", lambda t: (1.0, 2 * math.exp(t))),
    ("epsilon", {}, "epsilon", preserving(sigma_between(linear_table()))),
    ("epsilon", {"time": {"kind": "vp"}}, "epsilon", preserving(lambda t: vp_sigma(t / 999))),
    ("epsilon", {"time": {"kind": "vp", "scale": 1.0}}, "epsilon", preserving(vp_sigma)),
    ("epsilon", {"time": {"kind": "cosine"}}, "epsilon", preserving(lambda t: math.tan(math.pi * t / 2))),
    (
        "epsilon",
        {"time": {"kind": "table", "schedule": "scaled-linear", "beta_start": 0.00085, "beta_end": 0.012}},
        "epsilon",
        preserving(sigma_between(scaled_linear_table())),
    ),
    (
        "epsilon",
        {"time": {"kind": "table", "schedule": "cosine", "first_step": 1}},
        "epsilon",
        preserving(sigma_between(cosine_table(), first=1)),
    ),
    (
        "epsilon",
        {"time": {"kind": "table", "alphas_cumprod": linear_table(50, 1e-4, 0.4).tolist()}},
        "epsilon",
        preserving(sigma_between(linear_table(50, 1e-4, 0.4))),
    ),
    ("epsilon", {"process": "ve", "time": {"kind": "sigma", "log": True}}, "epsilon", lambda t: (1.0, math.exp(t))),
    ("epsilon", {"process": "flow", "time": STRAIGHT}, "epsilon", lambda t: (t, 1 - t)),
    ("sample", {}, "sample", preserving(sigma_between(linear_table()))),
    ("sample", {"process": "flow", "time": STRAIGHT}, "sample", lambda t: (t, 1 - t)),
    ("v", {}, "v", preserving(lambda t: math.tan(math.pi * t / 2))),
    ("v", {"time": {"kind": "table"}}, "v", preserving(sigma_between(linear_table()))),
    ("score", {}, "score", lambda t: (1.0, t)),
    ("score", {"process": "vp", "time": {"kind": "vp"}}, "score", preserving(lambda t: vp_sigma(t / 999))),
    ("flow", {}, "velocity", lambda t: (t, 1 - t)),
    (
        "flow",
        {"time": {"kind": "flow", "toward": "noise", "scale": 1000}},
        "minus velocity",
        lambda t: (1 - t / 1000, t / 1000),
    ),
    (
        "flow",
        {"time": {"kind": "table", "sigmas": np.geomspace(0.01, 50, 30).tolist()}},
        "minus velocity",
        lambda t: (1 / (1 + 0.01 * 5000 ** (t / 29)), 1 - 1 / (1 + 0.01 * 5000 ** (t / 29))),
    ),
]


@pytest.mark.parametrize(("name", "arguments", "predicts", "amounts"), ADAPTERS)
def test_exact_networks_give_the_wiener_filter(name, arguments, predicts, amounts):
    chosen = preconditioning_from(name, arguments)
    low, high = chosen.sigma_range
    inside = SIGMAS[(low <= SIGMAS) & (high >= SIGMAS)]
    assert len(inside) >= 4
    found, expected = denoised(chosen, Exact(predicts, amounts), inside)
    for one, wanted in zip(found, expected, strict=True):
        assert relative_error(one, wanted) < 1e-9


@pytest.mark.parametrize("name", ["epsilon", "sample", "v", "score", "flow"])
def test_networks_of_images_from_zero_to_one(name):
    amounts = {
        "v": preserving(lambda t: math.tan(math.pi * t / 2)),
        "score": lambda t: (1.0, t),
        "flow": lambda t: (t, 1 - t),
    }.get(name, preserving(sigma_between(linear_table())))
    network = Exact({"flow": "velocity"}.get(name, name), amounts, low=0.0, high=1.0)
    chosen = preconditioning_from(name, {"image_range": [0, 1]})
    found, expected = denoised(chosen, network, SIGMAS[1:])
    assert max(relative_error(a, b) for a, b in zip(found, expected, strict=True)) < 1e-9
    plain = preconditioning_from(name)
    assert chosen.sigma_range == pytest.approx(tuple(2 * level for level in plain.sigma_range))


def test_the_nearest_step_is_exact_on_the_table_and_near_between():
    table = np.sqrt((1 - linear_table()) / linear_table())
    amounts = preserving(lambda t: table[int(t)])
    chosen = preconditioning_from("epsilon", {"time": {"kind": "table", "between": "nearest"}})

    def errors(sigmas):
        found, expected = denoised(chosen, Exact("epsilon", amounts), torch.as_tensor(sigmas, dtype=torch.float64))
        return [relative_error(one, wanted) for one, wanted in zip(found, expected, strict=True)]

    assert max(errors(table[[0, 1, 20, 400, 999]])) < 1e-9
    steps = [0, 1, 20, 100, 400, 700, 998]
    halves = (
        np.log(table[1:] / table[:-1])[steps] / 2
    )  # σ is wrong by at most this share: 20 % at step 0, 2 % at step 20
    for error, half in zip(errors(np.sqrt(table[:-1] * table[1:])[steps]), halves, strict=True):
        assert 1e-4 < error < 1.5 * half


def test_outside_its_table_a_network_is_told_the_nearest_end():
    table = StepTable()
    low, high = table.sigma_range
    times = table.time(torch.tensor([low / 100, low, high, high * 100], dtype=torch.float64))
    assert times.tolist() == pytest.approx([0, 0, 999, 999], abs=1e-9)
    signal = linear_table()
    assert (low, high) == pytest.approx(tuple(np.sqrt((1 - signal) / signal)[[0, -1]]))


def test_times_between_steps_rise_with_sigma_and_hit_the_steps():
    table = StepTable(schedule="cosine", steps=100)
    levels = torch.exp(table.log_sigmas)
    assert torch.allclose(table.time(levels), torch.arange(100.0, dtype=torch.float64), atol=1e-9)
    middle = torch.sqrt(levels[:-1] * levels[1:])
    assert torch.allclose(table.time(middle), 0.5 + torch.arange(99.0, dtype=torch.float64), atol=1e-9)


def iddpm_table():
    """The table of Karras et al. 2022, table 1, right column, as its recursion says."""
    angle = [math.sin(math.pi / 2 * j / (1000 * 1.008)) ** 2 for j in range(1001)]
    u = np.zeros(1001)
    for j in range(1000, 0, -1):
        u[j - 1] = math.sqrt((u[j] ** 2 + 1) / max(angle[j - 1] / angle[j], 0.001) - 1)
    return u


def test_iddpm_rounds_to_its_table():
    u = iddpm_table()
    chosen = preconditioning_from("iddpm")
    assert chosen.sigma_range == pytest.approx((u[999], u[0]))
    sigmas = torch.tensor([u[999], u[500] * 1.0001, 0.3, 1.0, 17.0, u[0]], dtype=torch.float64)
    expected = [999 - int(np.abs(u - float(level)).argmin()) for level in sigmas]
    assert chosen.coefficients(sigmas).noise.tolist() == expected
    # below the table the last step is taken, never the time −1 of u_M = 0, which no network saw
    assert chosen.coefficients(torch.tensor([1e-6, 0.002], dtype=torch.float64)).noise.tolist() == [0, 0]


def test_iddpm_gives_the_wiener_filter_at_its_levels():
    u = iddpm_table()
    amounts = preserving(lambda t: u[999 - int(t)])
    on_table = torch.from_numpy(u[[990, 700, 400, 100, 10]])
    found, expected = denoised(preconditioning_from("iddpm"), Exact("epsilon", amounts), on_table)
    assert max(relative_error(a, b) for a, b in zip(found, expected, strict=True)) < 1e-9


def test_edm_scales_input_and_target_to_unit_variance():
    chosen = preconditioning_from("edm", {"sigma_data": 0.3})
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(200_000, generator=generator, dtype=torch.float64)
    n = torch.randn(200_000, generator=generator, dtype=torch.float64)
    for sigma in (0.01, 0.3, 5.0):
        at = chosen.coefficients(torch.tensor([sigma], dtype=torch.float64))
        y = x + sigma * n
        target = (x - at.skip * y) / at.out
        assert float((at.into * y).std()) == pytest.approx(1, abs=0.01)
        assert float(target.std()) == pytest.approx(1, abs=0.01)
        # c_skip is the regression of x on y: what is left to predict does not correlate with the input
        assert float((target * y).mean() / y.std()) == pytest.approx(0, abs=0.01)
        assert float(at.noise) == pytest.approx(math.log(sigma) / 4)


def test_edm_of_an_exact_network_is_that_of_the_published_formula():
    class Output(nn.Module):
        def forward(self, images, level, class_labels=None):
            sigma = torch.exp(4 * level).reshape(-1, 1, 1, 1)
            noisy = images * torch.sqrt(sigma**2 + 0.25)
            skip = 0.25 / (sigma**2 + 0.25)
            return (wiener(noisy, sigma.flatten()) - skip * noisy) / (sigma * 0.5 / torch.sqrt(sigma**2 + 0.25))

    found, expected = denoised(preconditioning_from("edm"), Output())
    assert relative_error(found, expected) < 1e-12


def test_uvit_is_told_the_time_of_the_vp_process_from_0_to_999():
    sigmas = torch.logspace(-2, 2, 9, dtype=torch.float64)
    usual, adapter = preconditioning_from("vp"), preconditioning_from("epsilon", {"time": {"kind": "vp"}})
    for one, other in zip(
        vars(usual.coefficients(sigmas)).values(), vars(adapter.coefficients(sigmas)).values(), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-12)
    assert usual.sigma_range == pytest.approx(adapter.sigma_range)
    assert float(usual.coefficients(torch.tensor([vp_sigma(1.0)], dtype=torch.float64)).noise) == pytest.approx(999)


def test_small_noise_levels_do_not_cancel_in_float64():
    time = preconditioning_from("vp").coefficients(torch.tensor([1e-9], dtype=torch.float64)).noise / 999
    assert float(time) == pytest.approx(1e-18 / 0.1, rel=1e-6)


@pytest.mark.parametrize("name", list(preconditionings))
def test_every_preconditioning_is_frozen_described_and_survives_json(name):
    chosen = preconditioning_from(name)
    assert chosen.name == name
    assert chosen.description
    low, high = chosen.sigma_range
    assert 0 <= low < high
    written = json.loads(json.dumps(chosen.model_dump(mode="json")))
    assert preconditioning_from(name, written) == chosen
    assert preconditioning_from(chosen) is chosen


@pytest.mark.parametrize("name", [name for name, entry in preconditionings.items() if not entry.blind])
def test_float32_images_stay_float32_over_all_noise_levels(name):
    class Half(nn.Module):
        def forward(self, images, level, class_labels=None):
            assert images.dtype == level.dtype == torch.float32
            assert level.shape == (3,)
            return images / 2

    found = preconditioning_from(name).denoise(Half(), torch.ones(3, 1, 4, 4), torch.tensor([0.002, 1, 80]))
    assert found.dtype == torch.float32
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("name", [name for name, entry in preconditionings.items() if not entry.blind])
def test_tables_follow_the_images_to_their_device(name):
    class Same(nn.Module):
        def forward(self, images, level, class_labels=None):
            return images * level.reshape(-1, 1, 1, 1)

    noisy, sigma = torch.zeros(2, 1, 4, 4, device="meta"), torch.ones(2, device="meta")
    assert preconditioning_from(name).denoise(Same(), noisy, sigma).device.type == "meta"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("edn", {}, "did you mean 'edm'"),
        ("edm", {"sigma": 0.5}, "its arguments: sigma_data"),
        ("edm", {"sigma_data": -1}, "sigma_data: Input should be greater than 0"),
        ("blind-residual", {"sigma_data": 1}, "its arguments: none"),
        ("epsilon", {"time": {"kind": "steps"}}, "'vp', 'cosine', 'sigma', 'flow', 'table'"),
        ("epsilon", {"time": {"kind": "table", "alphas_cumprod": [0.9, 0.95]}}, "noisier than the one before"),
        ("epsilon", {"time": {"kind": "table", "alphas_cumprod": [0.9, 0.0]}}, "strictly between 0 and 1"),
        ("epsilon", {"time": {"kind": "table", "sigmas": [1.0, float("inf")]}}, "finite"),
        ("epsilon", {"time": {"kind": "table", "sigmas": [1.0, 2.0], "alphas_cumprod": [0.9, 0.8]}}, "not both"),
        ("epsilon", {"image_range": [1, 0]}, "from a lower to a higher"),
        ("v", {"process": "ve"}, "'vp'"),
    ],
)
def test_wrong_names_and_arguments(name, arguments, said):
    with pytest.raises(UserError, match=said) as caught:
        preconditioning_from(name, arguments)
    assert "\n" not in str(caught.value)


def test_blind_networks_go_with_blind_preconditionings_alone():
    preconditioning_from("blind-residual").check_fits(UNet(1, 4, 1))
    preconditioning_from("edm").check_fits(MLP())
    with pytest.raises(UserError, match="UNet does not take; it goes with blind-residual"):
        preconditioning_from("edm").check_fits(UNet(1, 4, 1))
    with pytest.raises(UserError, match="MLP does not take; it goes with edm"):
        preconditioning_from("blind-residual").check_fits(MLP())


def test_a_description_without_arguments_means_the_published_ones():
    described = {"architecture": "mlp", "arguments": {}, "preconditioning": "edm", "image_shape": (1, 1, 2)}
    config = NetworkConfig.model_validate(described | {"sigma_range": (0.002, 80.0)})
    assert config.schema_version == 1
    assert preconditioning_from(config.preconditioning, config.preconditioning_arguments).sigma_data == 0.5
