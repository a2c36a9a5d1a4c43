"""Modules that own parameters. Feature maps are channels-last, ``(B, H, W, C)``."""

from . import predictors  # noqa: F401  registers the strategies
from .blocks import (
    AttentionBlock,
    BlockOptions,
    DynamicBlock,
    SelfAttention,
    StaticBlock,
    set_dilation,
)
from .dynamic import DynamicDepthwiseConv2d, DynamicLinear
from .fused import run_in_strips, run_recomputed, set_backend
from .registry import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

__all__ = [
    'KERNEL_PREDICTORS',
    'WEIGHT_PREDICTORS',
    'AttentionBlock',
    'BlockOptions',
    'DynamicBlock',
    'DynamicDepthwiseConv2d',
    'DynamicLinear',
    'SelfAttention',
    'StaticBlock',
    'run_in_strips',
    'run_recomputed',
    'set_backend',
    'set_dilation',
]
