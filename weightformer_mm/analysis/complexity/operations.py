"""Which operations are counted, and which count as nothing.

PyTorch's ``FlopCounterMode`` knows convolutions, matrix products and most forms of attention. `FORMULAS`
adds the matrix products and the attention it lacks, and this package's own operators. By convention all else
that does a few operations per element counts as nothing: elementwise operations, activations, norms, pooling,
resizing, reductions, sorting, and moving or creating data. (mmengine's counter adds a few for norms and
resizing, 0.5 G of 267 for a Mask R-CNN.) What is in neither list is named in the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from ... import ops as _ops  # noqa: F401  registers this project's operators
from ...ops._shared.operators import NAMESPACE

aten = torch.ops.aten
ours = getattr(torch.ops, NAMESPACE)
Shape = Sequence[int]

# of PyTorch's elementwise operations those that torch 2.1 does not tag as such
_FREE_NAMES = """
    norms: native_layer_norm native_batch_norm native_batch_norm_legit
    native_batch_norm_legit_no_training batch_norm_with_update batch_norm_no_update cudnn_batch_norm
    native_group_norm fused_rms_norm linalg_vector_norm norm
    activations: softmax log_softmax safe_softmax glu prelu_kernel rrelu_with_noise native_dropout
    hardswish leaky_relu log_sigmoid_forward floor_divide
    elementwise: celu elu hardshrink hardsigmoid hardtanh isfinite isinf mish rad2deg relu6 rrelu selu
    silu softplus softshrink threshold
    pooling: avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d
    max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d
    mkldnn_max_pool2d
    resizing: upsample_nearest1d upsample_nearest2d upsample_nearest_exact2d upsample_linear1d
    upsample_bilinear2d upsample_bilinear2d_aa upsample_bicubic2d upsample_bicubic2d_aa
    upsample_trilinear3d
    reductions: sum mean prod amax amin aminmax max min argmax argmin any all std var std_mean var_mean
    logsumexp cumsum cumprod cummax cummin count_nonzero median mode nansum histc
    sorting: sort topk kthvalue unique unique2 unique_dim searchsorted bucketize bincount
    moving: cat stack clone copy to_copy index index_put index_select index_fill index_add index_copy
    gather scatter scatter_add scatter_reduce masked_select masked_scatter nonzero take embedding
    constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d roll flip rot90 repeat
    repeat_interleave im2col col2im pixel_shuffle pixel_unshuffle channel_shuffle tril triu tril_indices
    triu_indices diag_embed slice_scatter select_scatter unfold_copy resize set
    creating: empty empty_like empty_strided empty_permuted new_empty new_empty_strided zeros zeros_like
    new_zeros zero ones ones_like new_ones full full_like new_full fill arange linspace logspace eye
    scalar_tensor rand rand_like randn randn_like randint randint_like randperm normal normal_functional
    uniform bernoulli
"""
_FREE = frozenset(name for name in _FREE_NAMES.split() if not name.endswith(':'))
_OURS_FREE = {'pool_tokens', 'pool_tokens_whole', 'pool_grid', 'pool_grid_whole', 'bounded_update'}
# they return their input under another shape, and their schema does not say so
_UNDECLARED_VIEWS = frozenset({'_unsafe_view', '_reshape_alias', 'lift_fresh', 'unsafe_split'})


def is_free(function: torch._ops.OpOverload) -> bool:
    """Whether an operation that has no formula counts as nothing by convention."""
    schema = function._schema
    answers = not schema.is_mutable and not any('Tensor' in str(out.type) for out in schema.returns)
    if answers or _is_pointwise(function) or is_view(function):
        return True
    if function.namespace == NAMESPACE:
        return _name(function) in _OURS_FREE
    # zero_ is zero in place, and _softmax what softmax dispatches to
    return function.namespace == 'aten' and _name(function).strip('_') in _FREE


def is_view(function: torch._ops.OpOverload) -> bool:
    """Whether an operation only gives another shape to its input."""
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
    """PyTorch tags elementwise operations, but of some only the form that is not in place."""
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


def _kernel_grad(x: Shape, grad: Shape, images: int, size: int, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * size**2


def _correlation(z: Shape, left: int, *_: Any, **__: Any) -> int:
    """``(B, Np, P + Q)``: the product of the first ``P = left`` columns and the others, over the tokens."""
    return _product((z[0], left, z[1]), (z[2] - left,))


def _add_product(bias: Shape, left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    return _product(left, right)


def _formulas() -> dict[torch._ops.OpOverloadPacket, Callable[..., int]]:
    rules: list[tuple[Any, str, Callable[..., int]]] = [
        (aten, 'mv dot vdot', lambda left, right, *_, **__: _product(left, (1,))),
        (aten, 'addmv addmv_', lambda bias, left, right, *_, **__: _product(left, (1,))),
        # mmcv's deformable convolution runs some of these
        (aten, 'addmm_ baddbmm_ addbmm addbmm_ _addmm_activation', _add_product),
        (aten, '_scaled_dot_product_flash_attention_for_cpu', _attention),
        (aten, '_scaled_dot_product_fused_attention_overrideable', _attention),
        (aten, '_scaled_dot_product_attention_math_for_mps', _attention),
        (ours, 'depthwise_conv depthwise_conv_input_grad depthwise_conv_norm', _depthwise_conv),
        (ours, 'eager_conv', _depthwise_conv),
        (ours, 'depthwise_conv_kernel_grad', _kernel_grad),
        (ours, 'silu_correlation', _correlation),
    ]
    # an older torch does not have all of them
    return {
        getattr(library, name): rule
        for library, names, rule in rules
        for name in names.split()
        if hasattr(library, name)
    }


FORMULAS = _formulas()
