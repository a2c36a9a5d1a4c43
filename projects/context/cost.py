"""What a backbone costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmengine.registry import MODELS

from weightformer_mm.analysis.complexity import measure

SIDES = (256, 2048)  # of the image, in pixels


@dataclass(frozen=True)
class Cost:
    """Of a backbone: its parameters, and multiply-adds for one image by the side of the image in pixels."""

    parameters: int
    multiply_adds: dict[int, int]


def backbone_cost(backbone: dict[str, Any]) -> Cost:
    """Count parameters and multiply-adds.

    Args:
        backbone: config of the backbone.
    """
    model = MODELS.build({**backbone, 'init_cfg': None})
    totals = {side: measure(model, (side, side)).total for side in SIDES}
    counts = {side: total.multiply_adds for side, total in totals.items()}
    return Cost(totals[SIDES[0]].parameters, counts)
