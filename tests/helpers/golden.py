"""Access to the float64 reference numbers in ``tests/data/golden``."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[1] / 'data' / 'golden'
TOLERANCE = 1e-10  # float64 keeps 16 digits; sums of up to 1e5 terms lose at most 5 of them


def load(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f'{name}.safetensors')


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix.``, without it."""
    start = f'{prefix}.'
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def released_shapes() -> dict[str, dict]:
    """For each released arch: ``params``, ``image_size`` and the shape of each weight."""
    return json.loads((FOLDER / 'released_state_dicts.json').read_text())


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()
