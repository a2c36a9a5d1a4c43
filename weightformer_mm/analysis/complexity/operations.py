"""Which operations are counted, and which count as nothing.

PyTorch's ``FlopCounterMode`` knows convolutions, matrix products and most forms of attention. `FORMULAS`
adds the matrix products and the attention it lacks, and this package's own operators. By convention,
everything else that does a few operations per element counts as nothing: elementwise operations, activations,
norms, pooling, resizing, reductions, sorting, and moving or creating data. (mmengine's counter adds a little
for norms and resizing, 0.5 G of 267 for a Mask R-CNN.) The report names what is in neither list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from ... import ops as _ops  # noqa: F401  registers this project's operators
from ...ops._shared.operators import NAMESPACE

aten = torch.ops.aten
ours = getattr(torch.ops, NAMESPACE)
Shape = Sequence[int]

# Norms and activations; pooling, resizing; reductions, sorting; moving; creating. Elementwise operations are
# listed only where torch 2.1 does not tag them as such.
_FREE = re.compile(
    r"""
    \w*norm\w* | \w*softmax | native_dropout | glu | floor_divide | log_sigmoid_forward
    | (c|s|leaky_r)?elu | relu6 | rrelu\w* | prelu_kernel | silu | mish | hard\w+ | soft(plus|shrink)
    | threshold | isfinite | isinf | rad2deg
    | \w*pool[123]d\w* | upsample_\w+
    | (a|arg|cum)?(max|min) | aminmax | (cum|nan)?(sum|mean|prod) | logsumexp | (std|var)(_mean)? | any | all
    | count_nonzero | median | mode | histc | sort | topk | kthvalue | unique\w* | searchsorted | bucketize
    | bincount
    | cat | stack | clone | (to_|unfold_)?copy | index\w* | gather | \w*scatter\w* | masked_select | nonzero
    | take | embedding | \w+_pad(_nd|[123]d) | roll | flip | rot90 | repeat\w* | im2col | col2im
    | \w+shuffle | tri[lu](_indices)? | diag_embed | resize | set
    | (new_)?(empty|zeros?|ones|full)(_\w+)? | fill | arange | linspace | logspace | eye | scalar_tensor
    | rand\w* | uniform | bernoulli
    """,
    re.VERBOSE,
)
_OURS_FREE = {
    'pool_tokens',
    'pool_tokens_whole',
    'pool_grid',
    'pool_grid_whole',
    'bounded_update',
    'layer_norm',
    'layer_norm_and_grid',
}
# they return their input in another shape, but their schema does not say so
_UNDECLARED_VIEWS = frozenset({'_unsafe_view', '_reshape_alias', 'lift_fresh', 'unsafe_split'})


def is_free(function: torch._ops.OpOverload) -> bool:
    """Whether an operation that has no formula counts as nothing by convention."""
    schema = function._schema
    answers = not schema.is_mutable and not any('Tensor' in str(out.type) for out in schema.returns)
    if answers or _is_pointwise(function) or is_view(function):
        return True
    if function.namespace == NAMESPACE:
        return _name(function) in _OURS_FREE
    # zero_ is zero in place, and softmax dispatches to _softmax
    return function.namespace == 'aten' and bool(_FREE.fullmatch(_name(function).strip('_')))


def is_view(function: torch._ops.OpOverload) -> bool:
    """Whether an operation only gives its input another shape."""
    if torch.Tag.inplace_view in function.tags:
        return True
    schema = function._schema
    aliases = [result.alias_info is not None for result in schema.returns]
    return _name(function) in _UNDECLARED_VIEWS or (any(aliases) and not schema.is_mutable)


def fresh_outputs(function: torch._ops.OpOverload, output: Any) -> list[torch.Tensor]:
    """The tensors among the outputs for which memory was allocated: no views, nothing in place."""
    if is_view(function):
        return []
    results = function._schema.returns
    values = [output] if len(results) == 1 else (output or [])
    fresh = [value for result, value in zip(results, values) if result.alias_info is None]
    return [leaf for leaf in tree_flatten(fresh)[0] if isinstance(leaf, torch.Tensor)]


def _is_pointwise(function: torch._ops.OpOverload) -> bool:
    """Whether it is elementwise. PyTorch tags such operations, some only in the form that is not in place."""
    forms = [function]
    original = getattr(aten, _name(function).rstrip('_'), None)
    if function.namespace == 'aten' and original is not None:
        forms += [getattr(original, overload) for overload in original.overloads()]
    return any(torch.Tag.pointwise in form.tags for form in forms)


def _name(function: torch._ops.OpOverload) -> str:
    return function._schema.name.rpartition('::')[2]


def _product(left: Shape, right: Shape) -> int:
    """FLOPs of ``(..., m, k) @ (..., k, n)``: two for each multiply-add, as ``FlopCounterMode`` counts."""
    return 2 * math.prod(left) * right[-1]


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """``(B, heads, N, d)``: the scores and their product with the values; softmax counts as nothing."""
    scores = (*query[:-1], key[-2])
    return _product(query, scores) + _product(scores, value)


def _depthwise_conv(x: Shape, kernel: Shape, *_: Any, **__: Any) -> int:
    """``x (B, H, W, C)``, ``kernel (B or 1, C, 1, k, k)``; the gradient of the input costs the same."""
    return 2 * math.prod(x) * kernel[-1] ** 2


def _conv_grad(x: Shape, grad: Shape, kernel: Shape, *_: Any, **__: Any) -> int:
    """The gradients of the map and of the kernel."""
    return 2 * _depthwise_conv(x, kernel)


def _correlation(z: Shape, left: int, *_: Any, **__: Any) -> int:
    """``(B, Np, P + Q)``: the product of the first ``P = left`` columns and the others, over the tokens."""
    return _product((z[0], left, z[1]), (z[2] - left,))


def _bilateral(
    x: Shape, weight: Shape, reduce: Shape, bias: Shape, left: Shape, *_: Any, **__: Any
) -> int:
    """The hidden layers of the pooled tokens, their correlation, and its expansion on both sides."""
    batch, rows, columns = x[0], *(max(side // 2, 1) for side in x[1:3])
    hidden, channels = reduce
    first, second = left[0], hidden - left[0]
    tokens = rows * columns * (hidden * channels + first * second)
    return 2 * batch * (tokens + first * (second + channels) * weight[1])


def _bilateral_mlp(x: Shape, normed: Shape, weight: Shape, *others: Any, **__: Any) -> int:
    return _bilateral(normed, weight, *others) + _mlp(x, normed, (1, *weight))


def _adaptive(grid: Shape, *_: Any, **__: Any) -> int:
    """Two products with square matrices for each cell, ``(B, k, k, C)``."""
    return 4 * math.prod(grid) * grid[-1]


def _mlp(x: Shape, normed: Shape, weight1: Shape, *_: Any, **__: Any) -> int:
    """``normed (B, H, W, C)``, ``weight1 (B or 1, C, D)``: two products of the same size."""
    return 2 * _product(normed, weight1)


def _add_product(bias: Shape, left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    return _product(left, right)


_RULES: list[tuple[Any, str, Callable[..., int]]] = [
    (aten, 'mv dot vdot', lambda left, right, *_, **__: _product(left, (1,))),
    (aten, 'addmv addmv_', lambda bias, left, right, *_, **__: _product(left, (1,))),
    # mmcv's deformable convolution runs some of these
    (aten, 'addmm_ baddbmm_ addbmm addbmm_ _addmm_activation', _add_product),
    (aten, '_scaled_dot_product_flash_attention_for_cpu', _attention),
    (aten, '_scaled_dot_product_fused_attention_overrideable', _attention),
    (aten, '_scaled_dot_product_attention_math_for_mps', _attention),
    (ours, 'depthwise_conv depthwise_conv_norm eager_conv', _depthwise_conv),
    (ours, 'depthwise_conv_grad depthwise_conv_norm_grad', _conv_grad),
    (ours, 'silu_correlation', _correlation),
    (ours, 'residual_mlp', _mlp),
    (ours, 'bilateral_weight', _bilateral),
    (ours, 'bilateral_mlp', _bilateral_mlp),
    (ours, 'adaptive_kernel', _adaptive),
]
FORMULAS = {
    getattr(library, name): rule
    for library, names, rule in _RULES
    for name in names.split()
    if hasattr(library, name)  # an older torch does not have all of them
}
