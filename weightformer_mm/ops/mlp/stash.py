"""What the MLP of a block passes from its forward pass to the recomputation of the block."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar, Token

from torch import Tensor

from .._shared.compat import is_compiling

# of the running block; None outside a block
current: ContextVar[Stash | None] = ContextVar('stash', default=None)


class Stash:
    """Carries the hidden layer past a checkpoint, and tells the MLP that its output is not needed again.

    Attributes:
        hidden: before GELU, ``(B * H * W, D)``; None if the backward pass recomputes it.
        recomputing: the block runs for the second time, for what its backward pass needs.
    """

    def __init__(self) -> None:
        self.hidden: Tensor | None = None
        self.recomputing = False

    def contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """For the forward pass and the recomputation of a block, as ``torch.utils.checkpoint`` takes them."""
        return _Run(self, recomputing=False), _Run(self, recomputing=True)


class _Run(AbstractContextManager):
    """May be entered repeatedly: a retained graph recomputes more than once."""

    def __init__(self, stash: Stash, recomputing: bool):
        self._stash, self._recomputing = stash, recomputing
        self._token: Token

    def __enter__(self) -> None:
        self._stash.recomputing = self._recomputing
        self._token = current.set(self._stash)

    def __exit__(self, *exception: object) -> None:
        current.reset(self._token)


def recomputes() -> bool:
    """Whether the running block will be recomputed in its backward pass."""
    return not is_compiling() and current.get() is not None
