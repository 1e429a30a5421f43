"""A user's own module beside the script: functions, a class, a constant."""

from __future__ import annotations

import torch

SCALE = 0.5


def scaled(tensor: torch.Tensor) -> torch.Tensor:
    """A helper function that calls another and reads a global."""
    return _scale(tensor) + 1


def _scale(tensor: torch.Tensor) -> torch.Tensor:
    return tensor * SCALE


def fails(tensor: torch.Tensor) -> torch.Tensor:
    """Fails at a line of its own."""
    missing = {}
    return tensor + missing["weight"]


class Probe(torch.nn.Module):
    """A module of the user's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(width, 2, bias=False)
        torch.nn.init.constant_(self.linear.weight, 0.25)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.linear(states)
