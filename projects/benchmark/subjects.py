"""What is measured: a network that is built, and a step of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from .steps import Case, Step


class Subject(ABC):
    """A backbone by its name, or the whole model of a config file."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in the column ``contender``."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What another process rebuilds it from, as JSON."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, on the CPU, with random weights.

        Raises:
            UserError: bad input, or a library is missing.
        """

    @abstractmethod
    def step(self, model: nn.Module, case: Case, device: torch.device) -> Step:
        """One step of the network, which is on ``device``."""

    @abstractmethod
    def multiply_adds(self, case: Case) -> int | None:
        """Of one step; None where there is no convention for it."""

    def refuses(self, height: int, width: int) -> str | None:
        """Why it cannot run on images of this size; None if it can."""
        return None
