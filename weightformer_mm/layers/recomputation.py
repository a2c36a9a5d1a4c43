"""Running a block so that its backward pass needs little memory."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .. import ops
from .as_built import untouched
from .blocks import AttentionBlock, DynamicBlock, StaticBlock


def run_recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block, keeping for the backward pass its input and what is dear to compute again.

    LayerNorm, convolution, prediction and GELU are computed again. The hidden layer of the MLP before GELU,
    a matrix product, is kept where that is faster; its second matrix product is not needed again.

    Args:
        block: one of the blocks of this package; what is derived from one, or hooked, is computed again as a
            whole.
        x: ``(B, H, W, C)``.

    Returns:
        ``(B, H, W, C)``; the same values and gradients as ``block(x)``.
    """
    if type(block) not in (AttentionBlock, DynamicBlock, StaticBlock) or not untouched(block):
        # something may come after the MLP, and needs its output again
        return checkpoint(block, x, use_reentrant=False)
    return checkpoint(block, x, use_reentrant=False, context_fn=ops.Stash().contexts)
