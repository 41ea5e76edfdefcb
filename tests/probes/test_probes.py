"""Errors, attribution, similarity and the memorization rule against direct computation."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser
from scorescope.probes.attribution import deviation
from scorescope.probes.errors import denoising_psnr, forward_inputs, input_psnr, reverse_inputs
from scorescope.probes.similarity import cosine_similarity, nearest


class Constant(Denoiser):
    """Answers the same image whatever it is given."""

    def __init__(self, value: float) -> None:
        super().__init__((1, 4, 4))
        self.value = value

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return torch.full_like(noisy, self.value)


class Identity(Denoiser):
    """Answers its input."""

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return noisy


def test_the_identity_has_the_input_psnr():
    clean = torch.zeros(200, 1, 16, 16)
    found = denoising_psnr(Identity((1, 16, 16)), clean, [2.0, 0.1], seed=0)
    assert found.shape == (2, 200)
    assert found.mean(1) == pytest.approx([input_psnr(2.0), input_psnr(0.1)], abs=0.1)
    assert input_psnr(2.0) == 0


def test_psnr_of_a_constant_error():
    found = denoising_psnr(Constant(0.5), torch.zeros(3, 1, 4, 4), [1.0], seed=0)
    assert found == pytest.approx(np.full((1, 3), 10 * math.log10(4 / 0.25)))


def test_explained_deviation_of_known_denoisers():
    model, optimal = Constant(1.0), Constant(0.0)
    mechanisms = {"itself": Constant(1.0), "memory": Constant(0.0), "half": Constant(0.5), "worse": Constant(-1.0)}
    inputs = forward_inputs(torch.zeros(2, 1, 4, 4), [1.0, 0.1], seed=0)
    found = deviation(model, optimal, mechanisms, inputs, [1.0, 0.1])
    assert found.gap() == pytest.approx([1, 1])
    for name, expected in {"itself": 1, "memory": 0, "half": 0.75, "worse": -3}.items():
        assert found.explained(name) == pytest.approx([expected] * 2)
        assert found.explained_overall(name) == pytest.approx(expected)


def test_a_negligible_gap_explains_nothing():
    found = deviation(Constant(0.0), Constant(0.001), {"m": Constant(5.0)}, [torch.zeros(1, 1, 4, 4)], [1.0])
    assert np.isnan(found.explained("m")).all()
    assert math.isnan(found.explained_overall("m"))


def test_reverse_inputs_are_the_states_of_the_flow():
    states = reverse_inputs(Constant(0.0), (1, 4, 4), [2.0, 1.0, 0.5], count=500, seed=0, centre=0.0)
    assert [state.sigma for state in states] == [2.0, 1.0, 0.5]
    # towards a constant zero the flow shrinks the state in proportion to sigma
    for state in states:
        assert torch.allclose(state.noisy, states[0].noisy * state.sigma / 2.0, atol=1e-5)


def test_similarity_ignores_brightness_and_contrast():
    images = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert cosine_similarity(images, 0.3 * images - 0.2) == pytest.approx(np.ones(5), abs=1e-5)
    assert cosine_similarity(images, -images) == pytest.approx(-np.ones(5), abs=1e-5)
    assert cosine_similarity(images, torch.ones_like(images)) == pytest.approx(np.zeros(5), abs=1e-5)


@pytest.mark.parametrize("chunk", [7, 64, 100_000])
def test_nearest_images_are_those_of_a_full_search(digits, chunk):
    images, queries = digits.subset(range(300)), digits.tensor(range(300, 320))
    flat = images.tensor().double().flatten(1).numpy()
    asked = queries.double().flatten(1).numpy()
    flat, asked = (values - values.mean(1, keepdims=True) for values in (flat, asked))
    cosine = (asked @ flat.T) / np.outer(np.linalg.norm(asked, axis=1), np.linalg.norm(flat, axis=1))
    found = nearest(queries, images, k=5, chunk=chunk)
    assert found.similarity == pytest.approx(-np.sort(-cosine, axis=1)[:, :5], abs=1e-5)
    assert np.take_along_axis(cosine, found.index, 1) == pytest.approx(found.similarity, abs=1e-5)


def test_an_image_of_the_set_can_be_told_from_its_neighbours(digits):
    images = digits.subset(range(50))
    with_self = nearest(images.tensor(), images)
    without = nearest(images.tensor(), images, exclude_self=True)
    assert with_self.index[:, 0].tolist() == list(range(50))
    assert (without.index[:, 0] != np.arange(50)).all()
    assert (without.similarity[:, 0] < 1).all()


def test_fewer_images_than_neighbours_asked_for():
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (2, 1, 4, 4), dtype=np.uint8))
    assert nearest(torch.rand(3, 1, 4, 4), images, k=9).index.shape == (3, 2)
