"""Neural tangent kernels: the analytic one of an infinitely wide ReLU network, and the empirical one of a network at hand.

A network f(u; θ) that moves little from its initial weights is linear in them, and gradient flow moves its outputs by the
kernel ``K(u, u') = ∂f(u)/∂θ · ∂f(u')/∂θᵀ`` (Jacot, Gabriel & Hongler, NeurIPS 2018, arXiv 1806.07572). For L hidden ReLU
layers, with weights ``N(0, σ_w²/fan-in)`` as factors in front of unit normal parameters and biases ``σ_b N(0, 1)``, the limit
of infinite width is

    Σ⁰ = σ_w² u·u'/n₀ + σ_b²,  Σ^l = σ_w² E[φ(z) φ(z')] + σ_b²,  Σ̇^l = σ_w² E[φ'(z) φ'(z')],  (z, z') ~ N(0, Σ^{l−1}),
    K⁰ = Σ⁰,  K^l = Σ^l + Σ̇^l K^{l−1}:

K^L is the tangent kernel of every output, and Σ^L the covariance of the outputs at the start, both independent between outputs.
At a finite width n the kernel of a network at hand differs from it by O(1/√n), and the variance of its initial outputs,
Σ^L(u, u), is the same at every width for ReLU: that of ``f₀`` does not vanish as the network widens.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from scorescope.foundation import UserError


class TangentKernel(ABC):
    """A tangent kernel, and what is known of the outputs at the start.

    Attributes:
        coupled: whether outputs share parameters in a way that the kernel sees: then it has a (d, d) block for every pair of
            inputs, else one number, the same for every output.
    """

    coupled: bool

    @abstractmethod
    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """K of all pairs of inputs: (n, k), (m, k) -> (n, m, c, c) with c = d if `coupled`, else 1."""

    @abstractmethod
    def start_mean(self, inputs: Tensor, dimension: int) -> Tensor:
        """Mean of the outputs at the start over initializations: (n, k) -> (n, d)."""

    @abstractmethod
    def start_covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """Their covariance: (n, k), (m, k) -> (n, m, c, c)."""


class ReluTangentKernel(TangentKernel):
    """The kernel of an infinitely wide ReLU network.

    Args:
        depth: L ≥ 0, hidden layers; 0 is a linear model of the inputs.
        weight_variance: σ_w²; 2 keeps the size of activations.
        bias_variance: σ_b².
        width: n of the network that is meant, the same for every hidden layer; None for infinite. The kernel is that of
            infinite
            width either way; `kernel_spread` says how far from it a network of that width is.

    Raises:
        UserError: an argument out of range.
    """

    coupled = False

    def __init__(
        self, depth: int = 2, *, weight_variance: float = 2.0, bias_variance: float = 0.1, width: int | None = None
    ) -> None:
        if depth < 0 or not weight_variance > 0 or not bias_variance >= 0 or (width is not None and width < 1):
            raise UserError(
                "a ReLU tangent kernel takes depth ≥ 0, σ_w² > 0, σ_b² ≥ 0 and width ≥ 1,"
                f" found {depth}, {weight_variance:g}, {bias_variance:g} and {width}"
            )
        self.depth, self.weight_variance, self.bias_variance, self.width = depth, weight_variance, bias_variance, width

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """See `TangentKernel.between`."""
        return self._recursion(first, second)[1][..., None, None]

    def start_mean(self, inputs: Tensor, dimension: int) -> Tensor:
        """See `TangentKernel.start_mean`; zero."""
        return torch.zeros(len(inputs), dimension, dtype=torch.float64)

    def start_covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """See `TangentKernel.start_covariance`."""
        return self._recursion(first, second)[0][..., None, None]

    @property
    def kernel_spread(self) -> float:
        """Order of the relative deviation of a network's own kernel, ``√(L/n)``; 0 for infinite width."""
        return 0.0 if self.width is None else math.sqrt(self.depth / self.width)

    def _recursion(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Σ^L and K^L of all pairs, (n, m)."""
        first, second = first.double(), second.double()
        scale = self.weight_variance / first.shape[1]
        own = (
            scale * first.square().sum(1)[:, None] + self.bias_variance,
            (scale * second.square().sum(1)[None] + self.bias_variance),
        )
        covariance = scale * first @ second.T + self.bias_variance
        kernel = covariance
        for _ in range(self.depth):
            size = (own[0] * own[1]).sqrt()
            # Inputs of size zero without bias have no direction: every power of them is zero.
            cosine = torch.where(size > 0, covariance / size.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
            angle = torch.arccos(cosine.clamp(-1.0, 1.0))
            both = size / (2 * math.pi) * (torch.sin(angle) + (math.pi - angle) * cosine)  # E[φ φ']
            slopes = self.weight_variance * (math.pi - angle) / (2 * math.pi)
            covariance = self.weight_variance * both + self.bias_variance
            kernel = covariance + slopes * kernel
            own = (
                self.weight_variance * own[0] / 2 + self.bias_variance,
                self.weight_variance * own[1] / 2 + self.bias_variance,
            )
        return covariance, kernel


class AffineTangentKernel(TangentKernel):
    """The kernel of ``f(x, t) = U(t) x + v(t)`` whose coefficients are lazy networks of time: ``(1 + x·x'/d) K(t, t')``.

    What it learns is affine in x, so that its flow takes Gaussians to Gaussians.

    Args:
        of_time: kernel of the coefficients; its input is the last value of each row, x the others.
    """

    coupled = False

    def __init__(self, of_time: ReluTangentKernel) -> None:
        self.of_time = of_time

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """See `TangentKernel.between`."""
        return self._products(first, second) * self.of_time.between(first[:, -1:], second[:, -1:])

    def start_mean(self, inputs: Tensor, dimension: int) -> Tensor:
        """See `TangentKernel.start_mean`; zero."""
        return torch.zeros(len(inputs), dimension, dtype=torch.float64)

    def start_covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """See `TangentKernel.start_covariance`."""
        return self._products(first, second) * self.of_time.start_covariance(first[:, -1:], second[:, -1:])

    def _products(self, first: Tensor, second: Tensor) -> Tensor:
        left, right = first[:, :-1].double(), second[:, :-1].double()
        return (1 + left @ right.T / left.shape[1])[..., None, None]


class TangentMLP(nn.Module):
    """A ReLU network whose parameters are unit normal, with the factors ``σ_w/√fan-in`` and σ_b outside: (B, k) -> (B, d).

    Only in this parametrization has gradient flow the analytic kernel, whatever the width.

    Args:
        inputs: k.
        outputs: d.
        width: n of every hidden layer.
        depth: hidden layers.
        weight_variance: σ_w².
        bias_variance: σ_b².
        generator: of the initial parameters.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        generator: torch.Generator,
        *,
        weight_variance: float = 2.0,
        bias_variance: float = 0.1,
    ) -> None:
        super().__init__()
        self.weight_scale, self.bias_scale = math.sqrt(weight_variance), math.sqrt(bias_variance)
        sizes = [inputs, *[width] * depth, outputs]
        pairs = list(itertools.pairwise(sizes))

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.weights = nn.ParameterList([normal(there, here) for here, there in pairs])
        self.biases = nn.ParameterList([normal(there) for _, there in pairs])

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, k) -> (B, d)."""
        hidden = inputs
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                hidden = torch.relu(hidden)
            hidden = self.weight_scale / math.sqrt(weight.shape[1]) * hidden @ weight.T + self.bias_scale * bias
        return hidden


class EmpiricalTangentKernel(TangentKernel):
    """The kernel of a network as it is, ``J Jᵀ`` with the Jacobian of its outputs by all of its parameters.

    The network's start is what it is: its outputs have a mean, and no variance.

    Args:
        network: maps inputs (B, k) to outputs (B, d), each row on its own.
    """

    coupled = True

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._parameters = {name: value.detach() for name, value in network.named_parameters()}

    def jacobian(self, inputs: Tensor) -> Tensor:
        """Derivatives of the outputs by all parameters, (n, d, number of parameters)."""

        def one(parameters: Mapping[str, Tensor], row: Tensor) -> Tensor:
            output: Tensor = functional_call(self.network, dict(parameters), (row[None],))[0]
            return output

        found = vmap(jacrev(one), in_dims=(None, 0))(self._parameters, inputs)
        return torch.cat([part.flatten(2) for part in found.values()], dim=2)

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """See `TangentKernel.between`."""
        left = self.jacobian(first)
        right = left if second is first else self.jacobian(second)
        return torch.einsum("nip,mjp->nmij", left, right).double()

    def start_mean(self, inputs: Tensor, dimension: int) -> Tensor:
        """See `TangentKernel.start_mean`; the network's own outputs.

        Raises:
            UserError: they have another dimension.
        """
        with torch.no_grad():
            output: Tensor = self.network(inputs).double()
        if output.shape[1] != dimension:
            raise UserError(f"the network has {output.shape[1]} outputs, wanted are {dimension}")
        return output

    def start_covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """See `TangentKernel.start_covariance`; zero."""
        dimension = self.network(first[:1]).shape[1]
        return torch.zeros(len(first), len(second), dimension, dimension, dtype=torch.float64)
