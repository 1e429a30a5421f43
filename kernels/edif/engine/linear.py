"""Linear probes, fitted beside the weights: logistic regression with an L2 penalty, one class against the rest.

Used by :mod:`edif.engine.probes`.  Examples are few and wide, so they are turned into as many numbers as there are
examples first (an exact change of axes); labels and all their shuffles are fitted at once, as columns.
"""

from __future__ import annotations

import torch

#: Until the largest gradient is smaller, or so many steps.
_TOLERANCE, _STEPS = 1e-6, 3000


class Fitted:
    """Probes, one a column.

    Args:
        weights: (width, columns), in units of the activations as they were given.
        offset: (columns).
    """

    def __init__(self, weights: torch.Tensor, offset: torch.Tensor) -> None:
        self.weights, self.offset = weights, offset

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """(examples, columns); above 0 speaks for the class."""
        return states.double() @ self.weights + self.offset


def fit(states: torch.Tensor, labels: torch.Tensor, penalty: float) -> Fitted:
    """Minimise mean logistic loss + penalty/2 · ‖w‖², activations being scaled to a mean square length of 1.

    Args:
        states: (examples, width).
        labels: (examples, columns), 1 for the class and 0 for the others.
    """
    given = states.double()
    centre = given.mean(0)
    centred = given - centre
    left, sizes, right = torch.linalg.svd(centred, full_matrices=False)
    reduced = left * sizes  # (examples, rank)
    scale = float(reduced.square().sum(1).mean().sqrt()) or 1.0
    weights, offset = _descend(reduced / scale, labels.double(), penalty)
    whole = right.T @ weights / scale
    return Fitted(whole, offset - centre @ whole)


def _descend(states: torch.Tensor, labels: torch.Tensor, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Accelerated gradient descent with restarts (O'Donoghue & Candès 2015), all columns at once."""
    count, rank = states.shape
    whole = torch.cat([states, torch.ones(count, 1, dtype=states.dtype)], 1)  # the offset is the last weight
    shrink = torch.full((rank + 1, 1), penalty, dtype=states.dtype)
    shrink[-1] = 0.0
    step = 1.0 / (float(torch.linalg.matrix_norm(whole, 2)) ** 2 / (4 * count) + penalty)
    weights = ahead = torch.zeros(rank + 1, labels.shape[1], dtype=states.dtype)
    momentum = 1.0
    for _ in range(_STEPS):
        gradient = whole.T @ (torch.sigmoid(whole @ ahead) - labels) / count + shrink * ahead
        if float(gradient.abs().max()) < _TOLERANCE:
            break
        moved = ahead - step * gradient
        if float((gradient * (moved - weights)).sum()) > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, weights = moved + (momentum - 1) / following * (moved - weights), moved
        momentum = following
    return ahead[:-1], ahead[-1]


def folds(labels: torch.Tensor, groups: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """The fold of each example (examples): groups stay together, classes are spread as evenly as they can be."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.full((len(labels),), -1)
    sizes = torch.zeros(count, int(labels.max()) + 1)
    names = groups.unique()
    for name in names[torch.randperm(len(names), generator=generator)].tolist():
        members = groups == name
        wanted = torch.bincount(labels[members], minlength=sizes.shape[1]).to(sizes)
        # the fold that has fewest of these classes, and of those the smallest
        cost = sizes @ wanted + sizes.sum(1) / (10 * len(labels))
        fold = int(cost.argmin())
        found[members] = fold
        sizes[fold] += wanted
    return found
