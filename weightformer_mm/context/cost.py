"""What a backbone costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

SIDES = (256, 2048)  # of the image, in pixels


@dataclass(frozen=True)
class Cost:
    """Of a backbone: its parameters, and multiply-adds for one image by the side of the image in pixels."""

    parameters: int
    multiply_adds: dict[int, int]


def backbone_cost(backbone: dict[str, Any]) -> Cost:
    """Count without computing: on the meta device, matrix products, convolutions and attention.

    Args:
        backbone: config of the backbone.
    """
    with torch.device('meta'):
        model = MODELS.build({**backbone, 'init_cfg': None}).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, {side: _multiply_adds(model, side) for side in SIDES})


def _multiply_adds(model: torch.nn.Module, side: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device='meta'))
    return counter.get_total_flops() // 2
