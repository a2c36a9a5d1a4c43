"""LayerNorm over the channels of a map, and what comes right after it in these networks."""

from __future__ import annotations

from torch import Tensor

from .._shared.dispatch import check_map, choose_backend, is_traced
from . import reference, triton

__all__ = ['layer_norm']


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    gelu: bool = False,
    channels_first: bool = False,
    backend: str = 'auto',
) -> Tensor:
    """LayerNorm over the last axis.

    Args:
        x: ``(B, H, W, C)``.
        weight: ``(C,)``.
        bias: ``(C,)``.
        eps: added to the variance.
        gelu: apply GELU to the result.
        channels_first: return ``(B, C, H, W)``, contiguous.
        backend: ``'auto'``, ``'torch'`` or ``'triton'``, see `choose_backend`.

    Returns:
        ``(B, H, W, C)``. In PyTorch under autocast on a GPU it is float32; from Triton it has the type of
        autocast's products, so that the maps of a network do. Statistics and sums are float32 in both.

    Raises:
        ValueError: if the shapes do not match, or the backend cannot run on ``x``.
    """
    check_map(x, channels=len(weight))
    in_triton = choose_backend(backend, x) == 'triton'
    most = triton.MOST_TRANSPOSED if channels_first else triton.MOST_CHANNELS
    if in_triton and not is_traced() and x.shape[-1] <= most:
        return triton.layer_norm(x, weight, bias, eps, gelu, channels_first)
    out = reference.layer_norm(x, weight, bias, eps, gelu)
    out = out.to(triton.result_dtype(x)) if in_triton else out
    return out.permute(0, 3, 1, 2).contiguous() if channels_first else out
