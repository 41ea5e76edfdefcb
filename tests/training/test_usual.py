"""What a network is trained on by default is what its kind is trained on."""

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.jobs.train import Train
from scorescope.networks import architectures, preconditioning_from, preconditionings
from scorescope.networks.preconditioning import LinearPreconditioning
from scorescope.training import Objective
from scorescope.training.usual import OBJECTIVES, usual_training

SIGMAS = torch.tensor([0.03, 0.4, 1.0, 5.0, 40.0], dtype=torch.float64)


def test_every_preconditioning_of_a_network_that_is_trained_here_has_a_usual_objective():
    assert {entry.preconditioning for _, entry in architectures.items() if entry.trained_here} <= set(OBJECTIVES)
    assert set(OBJECTIVES) <= set(preconditionings)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ("blind-residual", "score")])
def test_the_loss_is_the_squared_error_of_what_the_network_predicts(name):
    # D = c_skip y + c_out F: an error of F is c_out times one of D, so w c_out² = 1
    used = preconditioning_from(name)
    assert isinstance(used, LinearPreconditioning)
    weights = Objective(**OBJECTIVES[name]).weights(SIGMAS)
    assert (weights * used.coefficients(SIGMAS).out ** 2).tolist() == pytest.approx([1] * len(SIGMAS))


def test_the_loss_of_a_score_network_is_the_error_of_the_noise():
    # the score's error times −σ is the noise's: λ = σ² of Song et al.
    weights = Objective(**OBJECTIVES["score"]).weights(SIGMAS)
    out = preconditioning_from("score").coefficients(SIGMAS).out
    assert (weights * out**2).tolist() == pytest.approx((SIGMAS**2).tolist())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_noise_levels_are_those_that_the_network_knows(name):
    low, high = preconditioning_from(name).sigma_range
    drawn = Objective(**OBJECTIVES[name]).draw(20_000, torch.Generator().manual_seed(0))
    assert ((drawn >= low * 0.999) & (drawn <= high * 1.001)).float().mean().item() > 0.999
    if name == "iddpm":
        table = preconditioning_from(name).table
        nearest = (table - drawn[:500, None].double()).abs().min(1).values
        assert (nearest / drawn[:500]).max().item() < 1e-3


def test_uniform_times_are_uniform():
    generator = torch.Generator().manual_seed(0)
    flow = Objective(noise="flow").draw(100_000, generator)
    cosine = Objective(noise="cosine").draw(100_000, generator)
    vp = Objective(noise="vp").draw(100_000, generator).double()
    # t from σ, each process inverted by hand
    times = [
        flow / (1 + flow),
        torch.atan(cosine) * 2 / torch.pi,
        (-0.1 + (0.01 + 39.8 * torch.log1p(vp**2)).sqrt()) / 19.9,
    ]
    for time in times:
        low, middle, high = time.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
        assert (low, middle, high) == pytest.approx((0.25, 0.5, 0.75), abs=0.01)


@pytest.mark.parametrize("name", architectures)
def test_an_architecture_is_trained_as_usual_unless_it_is_told_otherwise(name):
    usual = usual_training(architectures[name].preconditioning)
    chosen = Train.configure("small", architecture=name).training
    assert chosen.objective == Objective(**usual["objective"])
    assert chosen.learning_rate == usual["learning_rate"]
    told = Train.configure(
        "small", ["training.objective.noise=log-uniform"], architecture=name, training={"steps": 7}
    ).training
    assert (told.objective.noise, told.objective.weight, told.steps) == ("log-uniform", chosen.objective.weight, 7)


def test_the_papers_pairs():
    def objective(**settings):
        return Train.configure("small", **settings).training.objective

    assert (objective(architecture="unet").noise, objective(architecture="unet").weight) == ("power", "uniform")
    assert (objective(architecture="ddpm++").noise, objective(architecture="ddpm++").weight) == ("lognormal", "edm")
    assert (objective(architecture="u-vit").noise, objective(architecture="u-vit").weight) == ("vp", "noise")
    flow = objective(architecture="dit", preconditioning="flow")
    assert (flow.noise, flow.weight) == ("flow", "flow")


def test_an_unknown_architecture_is_named():
    with pytest.raises(UserError, match="no network is called 'ddpm'"):
        Train.configure("small", architecture="ddpm")
