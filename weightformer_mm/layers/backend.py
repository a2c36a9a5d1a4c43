"""Choosing between PyTorch and the Triton kernels for the layers of a network."""

from __future__ import annotations

from torch import nn

from ..ops._shared.dispatch import BACKENDS, check_backend


def set_backend(model: nn.Module, backend: str) -> None:
    """Let every layer and predictor of ``model`` that has a ``backend`` use this one.

    Args:
        backend: ``'auto'``, ``'torch'`` or ``'triton'``; see `weightformer_mm.ops.backend.choose_backend`.

    Raises:
        ValueError: for another name.
    """
    check_backend(backend)
    for module in model.modules():
        if getattr(module, 'backend', None) in BACKENDS:
            module.backend = backend
