"""Triton kernels on channels-last maps ``(B, H, W, C)``, and their launchers, which allocate.

Nothing else of this operation imports Triton.
"""

from .conv import conv, conv_norm
from .kernel_grad import kernel_grad
from .norm_grad import norm_grad

__all__ = ['conv', 'conv_norm', 'kernel_grad', 'norm_grad']
