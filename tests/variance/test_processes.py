"""Forward processes: their own equations, quadrature against closed forms, matrices of every kind, limits and refusals."""

import math

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.noise import edm_sigmas
from scorescope.variance.noise_matrix import NoiseMatrix
from scorescope.variance.processes import CustomProcess, LinearSignal, VarianceExploding, VariancePreserving

FULL = torch.tensor([[1.3, 0.4], [0.4, 0.6]], dtype=torch.float64)
SHAPES = {"number": 1.7, "diagonal": torch.tensor([0.5, 2.0]), "full": FULL}


def at(*times):
    return torch.tensor(times, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [VariancePreserving, VarianceExploding, LinearSignal])
def test_alpha_and_covariance_solve_their_equations(kind, shape):
    process, t, h = kind(shape=SHAPES[shape]), at(0.1, 0.4, 0.8), 1e-5
    slope = (process.alpha(t + h) - process.alpha(t - h)) / (2 * h)
    torch.testing.assert_close(slope, -process.beta(t) * process.alpha(t), rtol=1e-7, atol=1e-9)
    found = (process.covariance(t + h).dense(2) - process.covariance(t - h).dense(2)) / (2 * h)
    spread = process.covariance(t).dense(2)
    wanted = -2 * process.beta(t)[:, None, None] * spread + 2 * process.diffusion(t).dense(2)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-8)


def test_quadrature_gives_the_closed_form_of_vp():
    closed = VariancePreserving(shape=FULL)
    custom = CustomProcess(closed.beta, lambda t: closed.beta(t)[..., None, None] * FULL, 1e-3, 1.0, full=True)
    t = at(0.0, 1e-3, 0.2, 1.0)
    torch.testing.assert_close(custom.alpha(t), closed.alpha(t), rtol=1e-12, atol=0)
    torch.testing.assert_close(custom.covariance(t).dense(2), closed.covariance(t).dense(2), rtol=1e-10, atol=1e-14)


def test_quadrature_of_noise_whose_directions_turn():
    def diffusion(t):
        along = torch.stack([t.cos(), t.sin()], -1)
        return along[..., :, None] * along[..., None, :]

    process = CustomProcess(torch.zeros_like, diffusion, 0.01, 2.0, full=True)
    t = at(1.5)
    covariance = process.covariance(t).dense(2)[0]
    # ∫ 2 cos² = t + sin(2t)/2, ∫ 2 sin cos = sin² t
    wanted = torch.tensor(
        [[1.5 + math.sin(3) / 2, math.sin(1.5) ** 2], [math.sin(1.5) ** 2, 1.5 - math.sin(3) / 2]], dtype=torch.float64
    )
    torch.testing.assert_close(covariance, wanted, rtol=1e-12, atol=0)
    assert float(torch.linalg.eigvalsh(process.diffusion(t).dense(2)[0])[0]) == pytest.approx(0, abs=1e-15)


def test_times_of_the_flow():
    assert VariancePreserving(1e-3).times(30)[[0, -1]].tolist() == [1.0, 1e-3]
    torch.testing.assert_close(VarianceExploding().times(17), edm_sigmas(18), rtol=1e-12, atol=0)


def test_forward_draws_have_the_promised_moments():
    process, count = VariancePreserving(shape=FULL), 200_000
    clean = torch.tensor([1.0, -0.5], dtype=torch.float64).expand(count, 2)
    noisy = process.forward(clean, at(0.3).expand(count), torch.Generator().manual_seed(0))
    alpha, spread = process.alpha(at(0.3)), process.covariance(at(0.3)).dense(2)[0]
    assert float((noisy.mean(0) - alpha * clean[0]).abs().max()) < 5 * float(spread.max() / count) ** 0.5
    torch.testing.assert_close(noisy.T.cov(), spread, rtol=0.02, atol=0.01)
    start = process.start(count, 2, torch.Generator().manual_seed(1))
    torch.testing.assert_close(start.T.cov(), process.covariance(at(1.0)).dense(2)[0], rtol=0.02, atol=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_of_every_kind_agree_with_dense_ones(shape):
    matrix, vector = NoiseMatrix.of(SHAPES[shape]), at(0.3, -1.2)
    dense, other = matrix.dense(2), torch.tensor([[2.0, 0.1], [0.1, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(matrix.times(vector), dense @ vector)
    torch.testing.assert_close(matrix.power(-1).dense(2), torch.linalg.inv(dense))
    torch.testing.assert_close(matrix.power(0.5).dense(2) @ matrix.power(0.5).dense(2), dense)
    torch.testing.assert_close(matrix.on_both_sides(other), dense @ other @ dense)
    assert float(matrix.trace(2)) == pytest.approx(float(dense.trace()))
    assert float(matrix.log_determinant(2)) == pytest.approx(float(torch.logdet(dense)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: VariancePreserving(1.0), "ε ≥ 0 to a larger"),
        (lambda: VariancePreserving(-0.1), "ε ≥ 0"),
        (lambda: VariancePreserving(beta_min=0.0, beta_d=0.0), "must be positive"),
        (lambda: LinearSignal(horizon=1.0), "T must lie below"),
        (lambda: NoiseMatrix.of(torch.tensor([[1.0, 0.2], [0.0, 1.0]])), "symmetric"),
        (lambda: NoiseMatrix.of(torch.tensor([1.0, -1.0])), "no negative eigenvalue"),
        (lambda: NoiseMatrix.of(math.nan), "NaN"),
        (lambda: NoiseMatrix.of(torch.ones(2, 3)), "shape"),
        (lambda: VariancePreserving().alpha(at(-0.1)), "times must be"),
        (lambda: VariancePreserving().times(0), "at least one step"),
        (lambda: VariancePreserving().covariance(at(0.0)).power(-1), "singular"),
    ],
)
def test_refusals_are_one_clear_line(build, words):
    with pytest.raises(UserError, match=words) as error:
        build()
    assert "\n" not in str(error.value)
