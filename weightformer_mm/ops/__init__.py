"""Pure functions on tensors. Each folder is one operation; its ``reference`` defines the right result."""

from ._shared.dispatch import predict
from .attention import attention_as_mlp
from .depthwise_conv import (
    adaptive_kernel,
    adaptive_update,
    depthwise_conv,
    depthwise_conv_norm,
    norm_and_grid,
    pool_grid,
)
from .layer_norm import layer_norm
from .mlp import Stash, bilateral_mlp, recomputes, residual_mlp
from .predicted_weight import (
    bilateral_update,
    bilateral_weight,
    pool_tokens,
    predicted_linear,
    token_correlation,
    with_bounded_update,
)

__all__ = [
    'Stash',
    'adaptive_kernel',
    'adaptive_update',
    'attention_as_mlp',
    'bilateral_mlp',
    'bilateral_update',
    'bilateral_weight',
    'depthwise_conv',
    'depthwise_conv_norm',
    'layer_norm',
    'norm_and_grid',
    'pool_grid',
    'pool_tokens',
    'predict',
    'predicted_linear',
    'recomputes',
    'residual_mlp',
    'token_correlation',
    'with_bounded_update',
]
