"""The MLP of a block with its LayerNorm and its residual: where most of the network's time and memory goes.

Feature maps are channels-last, ``(B, H, W, C)``; ``D`` is the width of the hidden layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._shared.dispatch import (
    HALF,
    check_map,
    check_shape,
    choose_backend,
    is_traced,
    product_dtype,
    without_autocast,
)
from ..layer_norm import layer_norm
from ..predicted_weight import check_bilateral
from ..predicted_weight.bilateral import MOST_HIDDEN
from . import reference, triton
from .cpu.chunked import Plan, ResidualMLP
from .cpu.plan import TABLE
from .cpu.whole import WholeMLP
from .stash import Stash, current, recomputes

__all__ = ['Stash', 'bilateral_mlp', 'recomputes', 'residual_mlp']


def residual_mlp(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None = None,
    normed: Tensor | None = None,
    eps: float = 1e-6,
    backend: str = 'auto',
) -> Tensor:
    """``x + scale * (GELU(LN(x) W1 + b1) W2ᵀ + b2)``.

    Args:
        x: ``(B, H, W, C)``.
        norm_weight: of the LayerNorm, ``(C,)``.
        norm_bias: ``(C,)``.
        weight1: ``(B, C, D)``, one matrix per image, or ``(1, C, D)`` for all images.
        bias1: ``(D,)``.
        weight2: ``(C, D)``, as in ``nn.Linear``.
        bias2: ``(C,)``.
        scale: factor for each image's branch, ``(B,)``, as stochastic depth draws it; not differentiated.
        normed: ``LN(x)`` if already computed, ``(B, H, W, C)``; the form in pieces computes its own.
        eps: of the LayerNorm.
        backend: ``'auto'``, ``'torch'`` or ``'triton'``, see `choose_backend`. Triton runs products in half
            precision, unless the block will be recomputed.

    Returns:
        ``(B, H, W, C)``, in Triton in the type of ``x``.

    Raises:
        ValueError: if the shapes do not match.
    """
    check_map(x, channels=weight1.shape[1])
    if weight1.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f'expected one weight1 per image or one for all, got {weight1.shape[0]} for {x.shape[0]} images'
        )
    width = weight1.shape[2]
    check_shape('weight2', weight2, (x.shape[-1], width))
    parameters = norm_weight, norm_bias, weight1, bias1, weight2, bias2, scale
    if is_traced():  # a compiler does its own fusing, and cannot read the stash
        return reference.residual_mlp(x, *parameters, normed=normed, eps=eps)
    stash, on_cpu = current.get(), x.device.type == 'cpu'
    dtype = product_dtype(x)
    if stash is None and dtype in HALF and choose_backend(backend, x) == 'triton':
        if normed is None:
            normed = layer_norm(x, norm_weight, norm_bias, eps, backend=backend)
        return triton.mlp(x, normed.to(dtype), *parameters[2:])
    form = _form(x, parameters, checkpointed=stash is not None)
    if form == 'plain':
        return reference.residual_mlp(x, *parameters, normed=normed, eps=eps)
    tokens = max(TABLE[form].piece // width, 1) if on_cpu else None
    if form == 'whole':
        if normed is None:
            normed = F.layer_norm(x, norm_weight.shape, norm_weight, norm_bias, eps)
        return WholeMLP.apply(x, normed, weight1, bias1, weight2, bias2, scale, tokens)
    plan = Plan(tokens, keep_hidden=form == 'kept', dtype=dtype, eps=eps)
    with without_autocast(x.device.type):
        return ResidualMLP.apply(x, plan, stash, *parameters)


def bilateral_mlp(
    x: Tensor,
    normed: Tensor,
    prediction: tuple[Tensor, ...],
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None = None,
    backend: str = 'auto',
) -> Tensor | None:
    """`residual_mlp` in Triton, with the ``weight1`` that the ``bilateral`` strategy predicts.

    Args:
        normed: the LayerNorm of ``x``, ``(B, H, W, C)``.
        prediction: what `bilateral_weight` takes after its map: the static weight and four parameters.
        x, bias1, weight2, bias2, scale, backend: as for `residual_mlp`.

    Returns:
        ``(B, H, W, C)``; None where another form is needed: in PyTorch, for products in float32, a compiler,
        or a block that will be recomputed.
    """
    dtype, hidden = product_dtype(x), len(prediction[3])
    if is_traced() or current.get() is not None or dtype not in HALF or hidden > MOST_HIDDEN:
        return None
    if choose_backend(backend, x) == 'torch':
        return None
    check_bilateral(normed, *prediction)
    return triton.bilateral_mlp(x, normed.to(dtype), prediction, bias1, weight2, bias2, scale)


def _form(x: Tensor, parameters: tuple[Tensor | None, ...], checkpointed: bool) -> str:
    """The row of the CPU's table to use; on a GPU all tokens run together, plain unless checkpointed."""
    given = [parameter for parameter in parameters if parameter is not None]
    # a checkpointed block cannot tell in its first pass
    trains = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *given))
    if x.device.type != 'cpu':
        return 'plain' if not checkpointed else 'kept' if trains else 'recomputed'
    if not trains:
        return 'recomputed'
    weight1 = given[2]
    return next(
        form
        for form in (('kept', 'recomputed') if checkpointed else TABLE)
        if weight1.shape[2] >= TABLE[form].width
        and (form != 'whole' or _fits_whole(x, weight1, given))
    )


def _fits_whole(x: Tensor, weight1: Tensor, parameters: list[Tensor]) -> bool:
    """Whether nothing is converted or in half precision, and there is enough to go image by image."""
    same = all(parameter.dtype == x.dtype for parameter in parameters)
    elements = x.shape[:3].numel() * weight1.shape[2]
    enough = weight1.shape[0] == 1 or elements >= TABLE['whole'].elements
    return enough and same and product_dtype(x) == x.dtype in (torch.float32, torch.float64)
