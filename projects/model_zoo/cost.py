"""What the models of recipes and of their peers cost, all measured by the same count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weightformer_mm.analysis.complexity.report import complexity_of_config


@dataclass(frozen=True)
class Cost:
    """Learned numbers, and multiply-adds of one image in inference."""

    parameters: int
    multiply_adds: int


def cost_of(config: str, shape: tuple[int, int], options: Sequence[str] = ()) -> Cost:
    """Count the model of a config at a height and width, as ``tools/complexity.py`` does."""
    _, (complexity,) = complexity_of_config(config, [shape], options=options)
    return Cost(complexity.total.parameters, complexity.total.multiply_adds)
