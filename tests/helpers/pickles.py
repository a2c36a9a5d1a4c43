"""A pickle that does something when it is read unsafely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.call
