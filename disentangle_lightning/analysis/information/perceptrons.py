"""Small networks, many at once, each as if trained alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

STEPS, EVERY, PATIENCE = 400, 10, 10
"""At most so many steps; the held-out loss is looked at after every tenth, and given up after so many looks in vain."""


class Perceptrons(nn.Module):
    """T networks with one hidden layer of ReLU: [n, d] or [T, n, d] -> [T, n, outputs].

    The output layer starts at zero, so that what has learnt nothing says nothing.
    """

    def __init__(self, count: int, dim: int, hidden: int, outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(count, dim, hidden, generator=generator) * math.sqrt(2 / dim)
        self.first, self.first_bias = nn.Parameter(first), nn.Parameter(torch.zeros(count, 1, hidden))
        self.second = nn.Parameter(torch.zeros(count, hidden, outputs))
        self.second_bias = nn.Parameter(torch.zeros(count, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.first + self.first_bias) @ self.second + self.second_bias


def train(
    networks: Sequence[Perceptrons],
    losses: Callable[[Tensor], Tensor],
    fitted: Tensor,
    held_out: Tensor,
    seed: int,
    batch: int = 256,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.1,
) -> None:
    """Train networks with AdamW, and leave each of the T with the weights at which its held-out loss was lowest.

    Args:
        networks: each of T networks, that learn together, such as both sides of a critic.
        losses: of rows of the data, given as indices [T, n], for each network its own: [T].
        fitted: the rows that each learns from, [T, F].
        held_out: the rows that choose its step, [T, H].
        seed: of the order.
        batch: rows of a step.
    """
    parameters = [p for network in networks for p in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
    generator = torch.Generator().manual_seed(seed)
    best = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        lowest = losses(held_out)
    in_vain = 0
    for step in range(1, STEPS + 1):
        rows = fitted[:, torch.randperm(fitted.shape[1], generator=generator)[:batch]]
        optimizer.zero_grad()
        torch.autograd.backward(losses(rows).sum())
        optimizer.step()
        if step % EVERY:
            continue
        with torch.no_grad():
            now = losses(held_out)
            better = now < lowest
            lowest = torch.where(better, now, lowest)
            for p, kept in zip(parameters, best, strict=True):
                kept[better] = p.detach()[better]
        in_vain = 0 if better.any() else in_vain + 1
        if in_vain == PATIENCE:
            break
    with torch.no_grad():
        for p, kept in zip(parameters, best, strict=True):
            p.copy_(kept)


def folds(count: int, seed: int, most: int = 5) -> tuple[Tensor, Tensor]:
    """So many things in folds, at most five: for each of T the others to learn from, [T, F], and itself, [T, H].

    Folds are of one size; what is left over is in none of them and always learnt from.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    networks = min(most, count)
    held = count // networks
    fold = order[: networks * held].view(networks, held)
    rest = [torch.cat([fold[torch.arange(networks) != i].flatten(), order[networks * held :]]) for i in range(networks)]
    return torch.stack(rest), fold
