"""Newer parts of PyTorch, guarded in one place: the package runs with torch 2.1 and later."""

from __future__ import annotations

import torch

# torch >= 2.4: operators that torch.compile keeps whole
HAS_CUSTOM_OPS = hasattr(torch.library, 'custom_op')


def is_compiling() -> bool:
    """Whether ``torch.compile`` (or export) traces this call."""
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()
