"""Members trained as one against networks trained alone."""

import pytest
import torch
from torch import nn

from scorescope.foundation import UserError
from scorescope.networks import MLP, UNet, preconditioning_from
from scorescope.variance.members import Members, MemberTraining, train_members

POINTS = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])


def networks(count):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = MLP((1, 1, 2), 16, 1)
        nn.init.normal_(network.last.weight, std=0.1)  # zero at first, which would hide everything else
        found.append(network)
    return found


def test_members_answer_as_their_networks_do():
    alone = networks(3)
    members = Members(alone, "edm")
    noisy, sigma = torch.randn(3, 5, 1, 1, 2), torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0])
    used = preconditioning_from("edm")
    expected = torch.stack([used.denoise(net, images, sigma) for net, images in zip(alone, noisy, strict=True)])
    assert torch.allclose(members(noisy, sigma), expected, atol=1e-6)
    assert torch.allclose(
        members.everywhere(noisy[0], 0.3)[1], used.denoise(alone[1], noisy[0], torch.full((5,), 0.3)), atol=1e-6
    )


def test_a_member_learns_what_it_would_alone():
    """An ensemble of three against plain Adam on one network that is fed the draws of the second member."""
    how = MemberTraining(steps=12, batch=8, pool=8, learning_rate=0.01)
    members = Members(networks(3), "edm")
    train_members(members, POINTS, None, how, torch.Generator().manual_seed(5))

    generator = torch.Generator().manual_seed(5)
    chosen = torch.randint(2, (3, 8), generator=generator)
    clean = POINTS[chosen]
    low, high = torch.tensor(how.sigma_min).log(), torch.tensor(how.sigma_max).log()
    sigma = (low + (high - low) * torch.rand(3, 8, generator=generator)).exp()
    noisy = clean + sigma[..., None] * torch.randn(clean.shape, generator=generator)
    alone, used = networks(3)[1], preconditioning_from("edm")
    optimizer = torch.optim.Adam(alone.parameters(), betas=(0.9, 0.99))
    for step in range(how.steps):
        cosine = (1 + torch.cos(torch.tensor(torch.pi * step / how.steps))) / 2
        optimizer.param_groups[0]["lr"] = float(how.learning_rate * (0.01 + 0.99 * cosine))
        denoised = used.denoise(alone, noisy[1][:, None, None], sigma[1])[:, 0, 0]
        weight = (sigma[1] ** 2 + 0.25) / (sigma[1] * 0.5) ** 2
        optimizer.zero_grad()
        (weight * (denoised - clean[1]).square().mean(-1)).mean().backward()
        optimizer.step()
    for name, value in alone.named_parameters():
        assert torch.allclose(members.parameters[name][1], value, atol=1e-5), name


def test_the_exact_target_is_used_on_the_same_draws():
    seen = []

    def target(clean, noisy, sigma):
        seen.append(noisy.clone())
        return torch.zeros_like(clean)

    how = MemberTraining(steps=2, batch=4)
    losses = train_members(Members(networks(2), "edm"), POINTS, target, how, torch.Generator().manual_seed(1))
    again = []
    train_members(
        Members(networks(2), "edm"),
        POINTS,
        lambda clean, noisy, sigma: again.append(noisy.clone()) or clean,
        how,
        torch.Generator().manual_seed(1),
    )
    assert all(torch.equal(one, other) for one, other in zip(seen, again, strict=True))
    assert losses.shape == (2,)
    assert not torch.equal(seen[0], seen[1])


def test_what_cannot_be_stacked_is_refused():
    with pytest.raises(UserError, match="running statistics"):
        Members([UNet(1, 4, 1)], "blind-residual")
    with pytest.raises(UserError, match="at least one"):
        Members([], "edm")
    with pytest.raises(UserError, match="diverged at step"):
        train_members(
            Members(networks(2), "edm"), POINTS, None, MemberTraining(steps=30, learning_rate=1e30), torch.Generator()
        )
