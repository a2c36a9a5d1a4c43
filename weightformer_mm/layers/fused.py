"""Run a block in few operations: the only place that fuses, recomputes or checks how modules were built.

The result is that of the lines of the block's ``forward``. A module that somebody changed (adapters,
quantisation, pruning, hooks) is not bypassed: it is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .. import ops
from ..ops._shared.dispatch import (
    BACKENDS,
    HALF,
    check_backend,
    choose_backend,
    is_exporting,
    is_traced,
    product_dtype,
)
from ..ops._shared.half_copies import half_copies
from .strips import even_strips, in_strips

Forward = Callable[[Any, Tensor], Tensor]

# classes whose modules may be bypassed; see `built`
_BUILT: set[type] = {nn.Conv2d, nn.Dropout, nn.GELU, nn.Identity, nn.Linear}


def fused(forward: Forward) -> Forward:
    """Decorator for a block's ``forward``: runs it in few operations if its modules are unchanged.

    An exporter sees the block as it is written.

    To change the lines of such a ``forward``, remove the decorator; a subclass runs as it is written.
    """

    @functools.wraps(forward)
    def run(block: Any, x: Tensor) -> Tensor:
        fuses = not is_exporting() and _is_fusible(block)
        return _run_fused(block, x) if fuses else forward(block, x)

    return run


def _is_fusible(block: Any) -> bool:
    """Whether the modules that `_run_fused` bypasses are unchanged, and none of them drops single values."""
    if type(block) not in _BUILT or not hasattr(block, 'linear1'):
        return False
    parts = block.norm2, block.linear1, block.linear2, block.drop, block.drop_path
    if not as_built(*parts):
        return False
    same_kinds = (
        hasattr(block.norm2, 'published_eps')
        and (isinstance(block.linear1, nn.Linear) or hasattr(block.linear1, 'predicted_weight'))
        and isinstance(block.linear2, nn.Linear)
        and isinstance(block.drop_path, (nn.Identity, DropPath))
    )
    drops = isinstance(block.drop, nn.Dropout) and block.drop.training
    return same_kinds and not drops and (not hasattr(block, 'dwc') or _keeps_kernel(block.dwc))


def _keeps_kernel(conv: nn.Module) -> bool:
    if not hasattr(conv, 'kernel') or not as_built(conv):
        return False
    if not isinstance(conv, nn.Conv2d):
        return True
    margin = conv.dilation[0]
    return has_geometry(conv, 3, padding=margin, groups=conv.in_channels, dilation=margin)


def _run_fused(block: Any, x: Tensor) -> Tensor:
    if hasattr(block, 'attention'):
        return _add_mlp(block, x + block.drop_path(block.attention(normalise(block.norm1, x))))
    bias, backend, dilation = block.dwc.bias, block.dwc.backend, block.dwc.dilation[0]
    if hasattr(block, 'norm1'):
        x, kernel = _normed_with_kernel(block.norm1, block.dwc, x)
    else:
        kernel = block.dwc.kernel(x)
    if dilation > 1 or choose_backend(backend, x) == 'torch' or ops.recomputes():
        x = ops.depthwise_conv(x, kernel, bias, True, backend, dilation)
        return _add_mlp(block, x)
    norm = block.norm2
    x, normed = ops.depthwise_conv_norm(
        x, kernel, bias, norm.weight, norm.bias, norm.published_eps(), backend=backend
    )
    return _add_mlp(block, x, normed)


def _normed_with_kernel(norm: Any, conv: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """``norm(x)``, and the kernel of the convolution that reads it."""
    parameters = getattr(conv, 'grid_parameters', lambda: None)()
    if parameters is None or not _runs_in_triton(norm, x):
        x = normalise(norm, x)
        return x, conv.kernel(x)
    of_norm = norm.weight, norm.bias, norm.published_eps()
    x, grid = ops.norm_and_grid(x, *of_norm, conv.kernel_size, norm.backend)
    return x, ops.adaptive_kernel(*(grid, *parameters, conv.weight, conv.backend))


def _runs_in_triton(norm: Any, x: Tensor) -> bool:
    """Whether the LayerNorm is unchanged, and a kernel runs it."""
    unchanged = as_built(norm) and hasattr(norm, 'published_eps')
    return unchanged and choose_backend(norm.backend, x) == 'triton'


def normalise(norm: Any, x: Tensor, gelu: bool = False, channels_first: bool = False) -> Tensor:
    """``norm(x)``, then GELU, as ``(B, C, H, W)`` if ``channels_first``; contiguous.

    Where Triton runs, the result has the type of autocast's products; PyTorch's is float32.
    """
    if _runs_in_triton(norm, x):
        parameters = norm.weight, norm.bias, norm.published_eps()
        return ops.layer_norm(x, *parameters, gelu, channels_first, norm.backend)
    x = norm(x)
    x = F.gelu(x) if gelu else x
    # A convolution passes a channels-last layout on to its output. mmcv's RoIAlign would then read the
    # memory as if it were NCHW: wrong features, no error.
    return x.permute(0, 3, 1, 2).contiguous() if channels_first else x


def with_half_copies(forward: Callable) -> Callable:
    """Decorator for a network's ``forward``: copies the matrices of its MLPs to half precision at once.

    It does so where Triton runs under autocast; ``units`` of the network are blocks, or lists of ``blocks``.
    """

    @functools.wraps(forward)
    def run(network: Any, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        dtype = product_dtype(image)
        used = dtype in HALF and not is_traced() and network.backend != 'torch'
        if not used or choose_backend(network.backend, image) == 'torch':
            return forward(network, image, *args, **kwargs)
        with half_copies(list(_matrices(network)), dtype):
            return forward(network, image, *args, **kwargs)

    return run


def _matrices(network: Any) -> Iterator[Tensor]:
    """The float32 parameters that products and convolutions read in half precision."""
    for unit in network.units:
        for block in getattr(unit, 'blocks', [unit]):
            if _is_fusible(block):
                # the weight of a dynamic layer is a summand of what it predicts
                linears = [x for x in (block.linear1, block.linear2) if isinstance(x, nn.Linear)]
                yield from (x.weight for x in linears if _is_copied(x.weight))
        if hasattr(unit, 'downsample'):
            convs = [x for x in unit.downsample.modules() if isinstance(x, nn.Conv2d)]
            for conv in filter(as_built, convs):
                parameters: tuple[Any, Any] = (conv.weight, conv.bias)
                yield from (x for x in parameters if _is_copied(x))


def _is_copied(parameter: Any) -> bool:
    """Whether this is a whole float32 parameter in one piece, which flattened ones of FSDP are not."""
    return parameter.dtype == torch.float32 and parameter.is_leaf and parameter.is_contiguous()


def run_in_strips(block: Any, x: Tensor, max_tokens: int) -> Tensor:
    """``block(x)`` at inference, of which about ``max_tokens`` tokens are computed at a time.

    A prediction reads the whole map, between two passes over the strips. ``x`` is overwritten. Attention, and
    a block that somebody changed, run on the whole map.
    """
    norm1 = getattr(block, 'norm1', None)
    unchanged = as_built(*filter(None, (block, norm1))) and _is_fusible(block)
    if block.training or hasattr(block, 'attention') or not unchanged:
        # the next block overwrites it, and somebody may keep what this one returned
        return block(x).clone()
    conv = block.dwc
    dilation = conv.dilation[0]
    if norm1 is None:
        return in_strips(block, x, max_tokens, out=x, halo=dilation)

    def convolve(strip: Tensor) -> Tensor:
        return ops.depthwise_conv(strip, kernel, conv.bias, True, conv.backend, dilation)

    def add_mlp(strip: Tensor) -> Tensor:
        return _add_mlp(block, strip, weight1=weight1)

    x = in_strips(norm1, x, max_tokens, out=x, halo=0)
    kernel = conv.kernel(x.clone() if is_hooked(conv) else x)
    x = in_strips(convolve, x, max_tokens, out=x, halo=dilation)
    weight1, linear1 = None, block.linear1
    if linear1.bilateral_parameters() is not None:
        weight1 = linear1.weight_of_parts(map(block.norm2, even_strips(x, max_tokens)), x)
    elif linear1.predictor is not None:
        weight1 = linear1.predicted_weight(in_strips(block.norm2, x, max_tokens, halo=0))
    return in_strips(add_mlp, x, max_tokens, out=x, halo=0)


def _add_mlp(
    block: Any, x: Tensor, normed: Tensor | None = None, weight1: Tensor | None = None
) -> Tensor:
    """``x + mlp(norm2(x))``; ``normed`` is ``norm2(x)``, and ``weight1`` predicted, if already known."""
    linear1, linear2, norm = block.linear1, block.linear2, block.norm2
    scale = None
    if block.drop_path.training and not isinstance(block.drop_path, nn.Identity):
        scale = block.drop_path(x.new_ones(len(x), 1, 1, 1)).flatten()  # (B,)
    if isinstance(linear1, nn.Linear):
        weight1 = linear1.weight.T.unsqueeze(0)  # (1, C, 4 * C)
    elif linear1.predictor is None:
        weight1 = linear1.weight.unsqueeze(0)
    elif weight1 is None:
        if normed is not None and (prediction := linear1.bilateral_parameters()) is not None:
            rest = linear1.bias, linear2.weight, linear2.bias, scale, linear1.backend
            if (out := ops.bilateral_mlp(x, normed, prediction, *rest)) is not None:
                return out
        normed = norm(x) if normed is None else normed
        weight1 = linear1.predicted_weight(normed)  # (B, C, 4 * C)
    parameters = norm.weight, norm.bias, weight1, linear1.bias, linear2.weight, linear2.bias
    return ops.residual_mlp(x, *parameters, scale, normed, norm.published_eps(), norm.backend)


def run_recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """``block(x)``, keeping only its input and what is expensive to recompute for the backward pass.

    LayerNorm, convolution, prediction and GELU are recomputed. The MLP's hidden layer before GELU, a matrix
    product, is kept where that is faster; its second matrix product is not needed again.
    """
    if not as_built(block):
        # something may come after the MLP and need its output again
        return checkpoint(block, x, use_reentrant=False)
    return checkpoint(block, x, use_reentrant=False, context_fn=ops.Stash().contexts)


def embed_patches(proj: nn.Conv2d, image: Tensor) -> Tensor:
    """``proj(image)``, channels-last; on a CPU as a matrix product.

    Forward and backward for 1x3x1024x1024 and 192 channels, two CPU cores, float32: 10 instead of 14 ms.
    """
    size = proj.kernel_size[0] if type(proj) is nn.Conv2d and as_built(proj) else 0
    if image.device.type != 'cpu' or is_traced() or not size or not has_geometry(proj, size, size):
        return proj(image).permute(0, 2, 3, 1)
    patches = image.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # (B, 3, H', P, W', P)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, H', W', 3 * P * P)
    return F.linear(patches, proj.weight.flatten(1), proj.bias)


def set_backend(model: nn.Module, backend: str) -> None:
    """Set the backend of every layer and predictor of ``model``: ``'auto'``, ``'torch'`` or ``'triton'``."""
    check_backend(backend)
    module: Any
    for module in model.modules():
        if getattr(module, 'backend', None) in BACKENDS:
            module.backend = backend


def built(module_class: type) -> type:
    """Class decorator: operations may use the parameters of these modules without calling the modules."""
    _BUILT.add(module_class)
    return module_class


def is_hooked(module: nn.Module) -> bool:
    """Whether a hook of a module, or of one inside it, may keep what it reads or returns."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def as_built(*modules: nn.Module, bias: bool = True) -> bool:
    """Whether calling the modules does exactly what their classes, known to this package, compute.

    False if one was replaced, parametrised, pruned, hooked or wrapped, or has parameters of another kind.

    Args:
        bias: whether the modules that may have a bias should have one.
    """
    return all(
        type(module) in _BUILT
        and 'forward' not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
        and _has_its_parameters(module, bias)
        for module in modules
    )


def _has_its_parameters(module: nn.Module, bias: bool) -> bool:
    """Whether no parameter is missing, added, or a tensor of a subclass, which may compute differently.

    In a half-precision predictor they are plain tensors, converted for the call.
    """
    parameters = module._parameters
    if 'bias' in parameters and (parameters['bias'] is not None) != bias:
        return False
    return all(
        type(value) in (nn.Parameter, torch.Tensor)
        for name, value in parameters.items()
        if bias or name != 'bias'
    )


def has_geometry(
    conv: nn.Conv2d,
    size: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> bool:
    """Whether a square convolution has this geometry, with zero padding."""
    squares = [(side, side) for side in (size, stride, padding, dilation)]
    found = [conv.kernel_size, conv.stride, conv.padding, conv.dilation]
    return found == squares and (conv.groups, conv.padding_mode) == (groups, 'zeros')
