"""Multiply-adds of this project's layers in closed form, exactly as the reference operators run them.

``H``, ``W``: rows and columns of the feature map. The products are re-associated as in `weightformer_mm.ops`;
a convolution counts the taps that fall on the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

MLP_RATIO = 4


def linear(height: int, width: int, in_features: int, out_features: int) -> int:
    """``H W Cin Cout``."""
    return height * width * in_features * out_features


def depthwise_conv(height: int, width: int, channels: int, kernel_size: int = 3) -> int:
    """``H W k² C``."""
    return height * width * kernel_size**2 * channels


def conv(height: int, width: int, in_channels: int, out_channels: int, kernel_size: int = 3) -> int:
    """``H W k² Cin Cout``; ``H``, ``W`` of the output."""
    return height * width * kernel_size**2 * in_channels * out_channels


def bilateral_linear(
    height: int, width: int, in_features: int, out_features: int, reduction: int = 4
) -> int:
    """``DynamicLinear(strategy='bilateral')`` on one image.

    With ``Np = max(⌊H/2⌋, 1) max(⌊W/2⌋, 1)``, ``P = ⌊Cin/r⌋``, ``Q = ⌊Cout/r⌋``::

        Np Cin (P + Q)            reduce, on the pooled tokens
        + Np P Q                  Aᵀ D
        + P Q Cout + Cin P Cout  E1ᵀ ((Aᵀ D) E2)
        + H W Cin Cout            the linear layer itself
    """
    pooled = max(height // 2, 1) * max(width // 2, 1)
    left, right = in_features // reduction, out_features // reduction
    predictor = (
        pooled * in_features * (left + right)
        + pooled * left * right
        + left * right * out_features
        + in_features * left * out_features
    )
    return predictor + linear(height, width, in_features, out_features)


def adaptive_depthwise_conv(height: int, width: int, channels: int, kernel_size: int = 3) -> int:
    """``DynamicDepthwiseConv2d(strategy='adaptive')`` on one image: ``2 k² C² + H W k² C``."""
    return 2 * kernel_size**2 * channels**2 + depthwise_conv(height, width, channels, kernel_size)


def block(height: int, width: int, channels: int, dynamic: bool) -> int:
    """A residual block with the published strategies, or a static one, on one image."""
    hidden = MLP_RATIO * channels
    convolution = adaptive_depthwise_conv if dynamic else depthwise_conv
    first = bilateral_linear if dynamic else linear
    return (
        convolution(height, width, channels)
        + first(height, width, channels, hidden)
        + linear(height, width, hidden, channels)
    )


def weightformer(
    height: int,
    width: int,
    channels: int,
    dynamic: Sequence[bool],
    patch_size: int = 16,
    in_channels: int = 3,
) -> int:
    """`WeightFormer` on one image of ``height`` by ``width`` pixels; ``dynamic`` says which blocks are."""
    rows, columns = -(-height // patch_size), -(-width // patch_size)
    blocks = sum(block(rows, columns, channels, is_dynamic) for is_dynamic in dynamic)
    return conv(rows, columns, in_channels, channels, patch_size) + blocks


def pyramid_weightformer(
    height: int,
    width: int,
    channels: Sequence[int],
    dynamic: Sequence[Sequence[bool]],
    in_channels: int = 3,
) -> int:
    """`PyramidWeightFormer` on one image; ``channels`` per stage, ``dynamic`` per stage and block."""
    halved = [(-(-height // 2**step), -(-width // 2**step)) for step in range(len(channels) + 2)]
    half = channels[0] // 2
    total = conv(*halved[1], in_channels, half) + conv(*halved[2], half, channels[0])
    for stage, (size, wide, kinds) in enumerate(zip(halved[2:], channels, dynamic)):
        if stage:
            total += conv(*size, channels[stage - 1], wide)
        total += sum(block(*size, wide, is_dynamic) for is_dynamic in kinds)
    return total
