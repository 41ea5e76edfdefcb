"""Jacobians, their eigenpairs, traces and asymmetry against dense float64 linear algebra and exact covariances."""

import math

import numpy as np
import pytest
import torch
from tests.conftest import relative_error

from scorescope.data.images import ImageSet
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser, OptimalDenoiser, WaveletDenoiser
from scorescope.foundation import UserError
from scorescope.networks import BFCNN, UNet
from scorescope.probes.asymmetry import asymmetry, estimated_asymmetry, negative_part
from scorescope.probes.eigenpairs import all_eigenpairs, leading_eigenpairs, oracle_shrinkage
from scorescope.probes.jacobian import DifferenceJacobian, Jacobian, jacobian_at
from scorescope.probes.linear_unet import LinearUNet
from scorescope.probes.linearization import MatrixJacobian
from scorescope.probes.trace import RandomEstimate, hutch_plus_plus, hutchinson, trace_of

SHAPE = (1, 8, 8)
SIGMA = 0.6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images():
    """Smooth random images, so that covariances decay."""
    rng = np.random.default_rng(0)
    waves = np.cos(np.pi / 8 * np.outer(np.arange(8), np.arange(8) + 0.5))
    weights = rng.normal(size=(60, 8, 8)) / (1 + np.add.outer(np.arange(8), np.arange(8))) ** 2
    pixels = np.einsum("nuv,ui,vj->nij", weights, waves, waves)[:, None]
    return ImageSet(np.clip(127.5 + 60 * pixels, 0, 255).astype(np.uint8))


def noisy_image(seed=1):
    return torch.randn(SHAPE, generator=seeded(seed), dtype=torch.float64)


def network():
    torch.manual_seed(0)
    return NetworkDenoiser(UNet(1, 8, 2), "blind-residual", SHAPE, (0.0, 2.0)).double()


def dense(values, seed=0):
    """A matrix with a given symmetric part's spectrum, and an antisymmetric part."""
    d = len(values)
    rotation = torch.linalg.qr(torch.randn(d, d, generator=seeded(seed), dtype=torch.float64)).Q
    twist = torch.randn(d, d, generator=seeded(seed + 1), dtype=torch.float64)
    return (rotation * values) @ rotation.T + 0.02 * (twist - twist.T), rotation


# exact Jacobians


def test_jacobian_of_the_gaussian_denoiser_is_its_filter():
    denoiser = GaussianDenoiser(images())
    deviations = images().tensor().double().flatten(1)
    deviations = deviations - deviations.mean(0)
    covariance = deviations.T @ deviations / len(deviations)
    expected = covariance @ torch.linalg.inv(covariance + SIGMA**2 * torch.eye(64, dtype=torch.float64))
    assert relative_error(Jacobian(denoiser, noisy_image(), SIGMA).matrix(), expected) < 1e-6


def test_jacobian_of_the_optimal_denoiser_is_the_posterior_covariance():
    clean = images().tensor().double().flatten(1)
    noisy = clean[3].reshape(SHAPE) + SIGMA * noisy_image()
    weights = torch.softmax(-(clean - noisy.reshape(1, -1)).square().sum(1) / (2 * SIGMA**2), 0)
    deviations = clean - weights @ clean
    expected = (deviations.T * weights) @ deviations / SIGMA**2
    denoiser = OptimalDenoiser(images())
    assert relative_error(Jacobian(denoiser, noisy, SIGMA).matrix(), expected) < 1e-4
    units = torch.eye(64, dtype=torch.float64).reshape(64, 1, *SHAPE)
    products = denoiser.jacobian_products(noisy[None], SIGMA, units).reshape(64, 64)
    assert relative_error(products, expected) < 1e-4
    told = float(denoiser.describe(noisy[None], SIGMA).covariance_trace) / SIGMA**2
    assert trace_of(Jacobian(denoiser, noisy, SIGMA).matrix()).value == pytest.approx(told, rel=1e-4)
    found = leading_eigenpairs(Jacobian(denoiser, noisy, SIGMA), 6, seeded(), tolerance=1e-5, block=3)
    assert found.converged
    assert found.values.numpy() == pytest.approx(torch.linalg.eigvalsh(expected).flip(0)[:6].numpy(), abs=1e-5)


def test_jacobian_of_the_golden_network(golden):
    data = golden("kadkhodaie_bfcnn.npz")
    state = {key[6:]: torch.from_numpy(data[key]) for key in data if key.startswith("state/")}
    layers = sum(key.startswith("conv_layers") for key in state)
    first = state["conv_layers.0.weight"]
    bf_cnn = BFCNN(first.shape[1], first.shape[0], layers)
    bf_cnn.load_state_dict(state)
    noisy = torch.from_numpy(data["noisy"])
    denoiser = NetworkDenoiser(bf_cnn, "blind-residual", tuple(noisy.shape[1:]), (0.0, 2.0))
    expected = torch.from_numpy(data["jacobian_of_denoiser"]).reshape(144, 144)
    jacobian = Jacobian(denoiser, 2 * noisy[0] - 1, None)  # a blind network is shown images on [0, 1]
    assert relative_error(jacobian.matrix(), expected) < 1e-5
    wanted = torch.linalg.eigvalsh((expected + expected.T).double() / 2).flip(0)
    found = leading_eigenpairs(jacobian, 12, seeded(), tolerance=1e-4)
    assert found.converged
    assert found.values.numpy() == pytest.approx(wanted[:12].numpy(), abs=1e-4)


@pytest.mark.parametrize("build", [network, lambda: GaussianDenoiser(images()), lambda: OptimalDenoiser(images())])
def test_products_agree_with_the_matrix(build):
    jacobian = Jacobian(build(), noisy_image(), SIGMA, products_at_once=7)
    matrix = jacobian.matrix()
    vectors = torch.randn(10, *SHAPE, generator=seeded(), dtype=torch.float64)
    flat = vectors.flatten(1)
    held = MatrixJacobian(matrix, SHAPE)
    for one in (jacobian, held):
        assert relative_error(one.columns(vectors).flatten(1), flat @ matrix.T) < 1e-5
        assert relative_error(one.rows(vectors).flatten(1), flat @ matrix) < 1e-5
        assert relative_error(one.symmetric(vectors).flatten(1), flat @ (matrix + matrix.T) / 2) < 1e-5


# denoisers that are not differentiable


def test_a_denoiser_that_is_not_differentiable_is_refused_with_the_option_that_helps():
    with pytest.raises(UserError, match="wavelet is not differentiable.*finite_differences=STEP"):
        jacobian_at(WaveletDenoiser(images()), noisy_image(), SIGMA)
    with pytest.raises(UserError, match="must be positive and finite, found 0"):
        jacobian_at(WaveletDenoiser(images()), noisy_image(), SIGMA, finite_differences=0)


def test_finite_differences_of_a_smooth_denoiser_are_its_jacobian():
    exact = Jacobian(network(), noisy_image(), None).matrix()
    found = DifferenceJacobian(network(), noisy_image(), None, step=1e-6, products_at_once=9)
    assert relative_error(found.matrix(), exact) < 1e-6
    torch.testing.assert_close(found.denoised, network()(noisy_image()[None])[0])


def test_a_differentiable_denoiser_needs_no_differences():
    assert isinstance(jacobian_at(network(), noisy_image(), None, finite_differences=0.1), LinearUNet)
    assert isinstance(jacobian_at(GaussianDenoiser(images()), noisy_image(), SIGMA), Jacobian)
    wavelet = jacobian_at(WaveletDenoiser(images()), noisy_image(), SIGMA, finite_differences=0.01)
    assert isinstance(wavelet, DifferenceJacobian)
    assert wavelet.matrix().shape == (64, 64)


# eigenpairs


@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("end", ["largest", "smallest"])
def test_leading_eigenpairs_are_those_of_the_symmetric_part(block, end):
    values = 0.93 ** torch.arange(100, dtype=torch.float64) - 0.1
    matrix, rotation = dense(values)
    found = leading_eigenpairs(MatrixJacobian(matrix, (1, 10, 10)), 9, seeded(), end=end, tolerance=1e-8, block=block)
    wanted = values[:9] if end == "largest" else values.flip(0)[:9]
    assert found.converged
    assert found.values.numpy() == pytest.approx(wanted.numpy(), abs=1e-9)
    flat = found.vectors.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-10)
    true = (rotation if end == "largest" else rotation.flip(1))[:, :9].T
    if end == "largest":  # at the other end the eigenvalues are too close together for this
        assert (flat * true).sum(1).abs().numpy() == pytest.approx(np.ones(9), abs=1e-6)
    symmetric = (matrix + matrix.T) / 2
    measured = (flat @ symmetric - found.values[:, None] * flat).norm(dim=1)
    assert measured.numpy() == pytest.approx(found.residuals.numpy(), abs=1e-9)


def test_fewer_products_than_dimensions_are_enough():
    values = 0.9 ** torch.arange(400, dtype=torch.float64)
    found = leading_eigenpairs(MatrixJacobian(dense(values)[0], (1, 20, 20)), 10, seeded(), block=4)
    assert found.converged
    assert found.products < 120


def test_what_did_not_converge_says_so():
    values = 1 - 1e-3 * torch.arange(400, dtype=torch.float64)
    found = leading_eigenpairs(MatrixJacobian(dense(values)[0], (1, 20, 20)), 10, seeded(), most_products=40)
    assert not found.converged
    assert found.products == 40
    assert float(found.residuals.max()) > found.tolerance


def test_repeated_and_vanishing_eigenvalues():
    values = torch.zeros(64, dtype=torch.float64)
    values[:5] = 1
    matrix, rotation = dense(values)
    symmetric = (matrix + matrix.T) / 2
    found = leading_eigenpairs(MatrixJacobian(symmetric, SHAPE), 12, seeded(), block=2, tolerance=1e-8)
    assert found.converged
    assert found.values.numpy() == pytest.approx(values[:12].numpy(), abs=1e-9)
    inside = found.vectors[:5].flatten(1) @ rotation[:, :5]
    assert torch.linalg.svdvals(inside).numpy() == pytest.approx(np.ones(5), abs=1e-8)
    nothing = leading_eigenpairs(MatrixJacobian(torch.zeros(64, 64), SHAPE), 3, seeded())
    assert nothing.values.tolist() == [0, 0, 0]


def test_all_eigenpairs_and_the_leading_ones_of_a_network_agree():
    jacobian = Jacobian(network(), noisy_image(), None)
    every = all_eigenpairs(jacobian)
    few = leading_eigenpairs(jacobian, 8, seeded(), tolerance=1e-8)
    assert few.values.numpy() == pytest.approx(every.values[:8].numpy(), abs=1e-9)
    assert (few.vectors[0] * every.vectors[0]).sum().abs() == pytest.approx(1, abs=1e-4)
    assert float(every.values.sum()) == pytest.approx(float(jacobian.matrix().trace()))
    assert every.converged
    torch.testing.assert_close(all_eigenpairs(jacobian, 5).values, every.values[:5])


def test_coefficients_and_their_oracle_shrinkage():
    every = all_eigenpairs(Jacobian(network(), noisy_image(), None))
    image = noisy_image(7)
    found = every.coefficients(image)
    assert float(found.square().sum()) == pytest.approx(float(image.square().sum()))
    expected = found**2 / (found**2 + 0.3**2)
    torch.testing.assert_close(oracle_shrinkage(found, 0.3), expected)


@pytest.mark.parametrize(
    "arguments", [{"count": 0}, {"count": 65}, {"count": 3, "block": 0}, {"count": 3, "most_products": 2}]
)
def test_impossible_numbers_of_eigenpairs(arguments):
    with pytest.raises(UserError, match="eigenpairs"):
        leading_eigenpairs(MatrixJacobian(torch.eye(64), SHAPE), generator=seeded(), **arguments)


# traces and asymmetry


def test_traces_lie_within_their_errors():
    values = 0.6 ** torch.arange(64, dtype=torch.float64)
    matrix = dense(values)[0]
    jacobian = MatrixJacobian((matrix + matrix.T) / 2, SHAPE)
    exact = trace_of(jacobian.matrix())
    assert exact.value == pytest.approx(float(values.sum()))
    assert exact.error == 0
    plain = [hutchinson(jacobian, 30, seeded(seed)) for seed in range(60)]
    better = [hutch_plus_plus(jacobian, 30, seeded(seed)) for seed in range(60)]
    for estimates in (plain, better):
        misses = np.array([one.value - exact.value for one in estimates])
        assert abs(misses.mean()) < 4 * misses.std() / math.sqrt(len(misses))
        assert (np.abs(misses) < 4 * np.array([one.error for one in estimates])).mean() > 0.9
    assert np.std([one.value for one in better]) < np.std([one.value for one in plain]) / 2


def test_hutch_plus_plus_is_exact_when_its_space_is_complete():
    matrix = dense(torch.linspace(-1, 1, 16, dtype=torch.float64))[0]
    found = hutch_plus_plus(MatrixJacobian(matrix, (1, 4, 4)), 60, seeded())
    assert found.value == pytest.approx(float(matrix.trace()), abs=1e-9)
    assert found.error == 0


def test_asymmetry_of_known_matrices():
    symmetric = dense(torch.linspace(0, 1, 64, dtype=torch.float64))[0]
    symmetric = symmetric + symmetric.T
    twist = torch.triu(torch.ones(64, 64, dtype=torch.float64), 1)
    assert asymmetry(symmetric) == pytest.approx(0, abs=1e-12)
    assert asymmetry(twist - twist.T) == pytest.approx(2)
    assert asymmetry(torch.randn(500, 500, generator=seeded())) == pytest.approx(math.sqrt(2), abs=0.01)
    assert math.isnan(asymmetry(torch.zeros(4, 4)))


def test_estimated_asymmetry_lies_within_its_error():
    matrix = dense(0.8 ** torch.arange(64, dtype=torch.float64))[0]
    jacobian = MatrixJacobian(matrix, SHAPE)
    found = [estimated_asymmetry(jacobian, 40, seeded(seed)) for seed in range(40)]
    scores = np.array([(one.value - asymmetry(matrix)) / one.error for one in found])
    assert abs(scores.mean()) < 0.5
    assert (np.abs(scores) < 3).mean() > 0.9
    assert estimated_asymmetry(MatrixJacobian(torch.eye(64), SHAPE), 2, seeded()) == RandomEstimate(0, 0, 2)
    assert math.isnan(estimated_asymmetry(MatrixJacobian(torch.zeros(64, 64), SHAPE), 2, seeded()).value)


def test_the_negative_part_of_a_spectrum():
    found = negative_part(torch.tensor([1.0, 0.5, -0.25, -1e-6, -0.25]))
    assert found.count == 2
    assert found.lowest == -0.25
    assert found.share == pytest.approx(0.25, abs=1e-5)


def test_too_few_draws_for_an_error_bar():
    jacobian = MatrixJacobian(torch.eye(64), SHAPE)
    for estimate in (hutchinson, estimated_asymmetry):
        with pytest.raises(UserError, match="at least 2 draws"):
            estimate(jacobian, 1, seeded())
    with pytest.raises(UserError, match="at least 6 products"):
        hutch_plus_plus(jacobian, 5, seeded())
    with pytest.raises(UserError, match="rows and columns"):
        MatrixJacobian(torch.eye(63), SHAPE)
