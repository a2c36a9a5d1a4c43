"""What the MLP of one block hands from its forward pass to the recomputation of the block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_current: ContextVar[Stash | None] = ContextVar('stash', default=None)


class Stash:
    """Carries the hidden layer past a checkpoint, and tells the MLP that its output is not needed again.

    Attributes:
        hidden: before GELU, ``(B * H * W, D)``; None if the backward pass computes it again.
        recomputing: the block runs for the second time, for what its backward pass needs.
    """

    def __init__(self):
        self.hidden: Tensor | None = None
        self.recomputing = False

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around the forward pass of the block."""
        with self._entered(recomputing=False):
            yield

    @contextmanager
    def recomputation(self) -> Iterator[None]:
        """Around its recomputation."""
        with self._entered(recomputing=True):
            yield

    @contextmanager
    def _entered(self, recomputing: bool) -> Iterator[None]:
        self.recomputing = recomputing
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


def current_stash() -> Stash | None:
    """The stash of the block that runs; None outside one."""
    return _current.get()
