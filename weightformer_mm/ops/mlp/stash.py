"""What the MLP of one block hands from its forward pass to the recomputation of the block."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar, Token

from torch import Tensor

from .._shared.compat import is_compiling

# of the block that runs; None outside one
current: ContextVar[Stash | None] = ContextVar('stash', default=None)


class Stash:
    """Carries the hidden layer past a checkpoint, and tells the MLP that its output is not needed again.

    Attributes:
        hidden: before GELU, ``(B * H * W, D)``; None if the backward pass computes it again.
        recomputing: the block runs for the second time, for what its backward pass needs.
    """

    def __init__(self) -> None:
        self.hidden: Tensor | None = None
        self.recomputing = False

    def contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """For the forward pass and the recomputation of a block, as ``torch.utils.checkpoint`` takes them."""
        return _Run(self, recomputing=False), _Run(self, recomputing=True)


class _Run(AbstractContextManager):
    """May be entered again: a graph that is retained recomputes more than once."""

    def __init__(self, stash: Stash, recomputing: bool):
        self._stash, self._recomputing = stash, recomputing
        self._token: Token

    def __enter__(self) -> None:
        self._stash.recomputing = self._recomputing
        self._token = current.set(self._stash)

    def __exit__(self, *exception: object) -> None:
        current.reset(self._token)


def recomputes() -> bool:
    """Whether a block runs whose backward pass computes it again."""
    return not is_compiling() and current.get() is not None
