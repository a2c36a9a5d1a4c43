"""Modules that own parameters. Feature maps are channels-last, ``(B, H, W, C)``."""

from .attention import SelfAttention
from .backend import set_backend
from .blocks import AttentionBlock, DynamicBlock, StaticBlock
from .dynamic_depthwise_conv import DynamicDepthwiseConv2d
from .dynamic_linear import DynamicLinear
from .predictors import KERNEL_PREDICTORS, WEIGHT_PREDICTORS
from .recomputation import run_recomputed
from .stems import ConvStem, Downsample, PatchEmbed

__all__ = [
    'KERNEL_PREDICTORS',
    'WEIGHT_PREDICTORS',
    'AttentionBlock',
    'ConvStem',
    'Downsample',
    'DynamicBlock',
    'DynamicDepthwiseConv2d',
    'DynamicLinear',
    'PatchEmbed',
    'SelfAttention',
    'StaticBlock',
    'run_recomputed',
    'set_backend',
]
