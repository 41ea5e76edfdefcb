"""The global generator in several threads: each draws what its seed says, and the caller's state is put back."""

from concurrent.futures import ThreadPoolExecutor

import torch

from scorescope.foundation.randomness import seeded


def drawn(seed):
    with seeded(seed):
        return torch.stack([torch.rand(1000) for _ in range(200)])


def test_threads_draw_what_their_seed_says():
    expected = [drawn(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(drawn, range(8)))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_a_block_within_a_block_and_the_state_after_both():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(2)
        with seeded(2):
            torch.rand(2)
        second = torch.rand(2)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1):
        assert torch.equal(torch.cat([first, second]), torch.cat([torch.rand(2), torch.rand(2)]))
