from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..ops._shared.dispatch import is_transformed
from .primitives import Linear

HEAD_WIDTH = 32


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens of a map, with ``scaled_dot_product_attention``.

    Args:
        channels: channels of input and output. There is one head per 32 of them, or as many as divide them.

    Shape:
        ``(B, H, W, channels) -> (B, H, W, channels)``.
    """

    def __init__(self, channels: int):
        super().__init__()
        most = max(1, channels // HEAD_WIDTH)
        self.num_heads = next(heads for heads in range(most, 0, -1) if channels % heads == 0)
        self.qkv = Linear(channels, 3 * channels)
        self.proj = Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))
        query, key, value = heads.permute(
            2, 0, 3, 1, 4
        )  # (B, N, 3, heads, d) -> each (B, heads, N, d)
        # which has no forward-mode derivatives
        attend = ops.attention_as_mlp if is_transformed() else F.scaled_dot_product_attention
        mixed = attend(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))  # (B, heads, N, d) -> (B, H, W, C)
