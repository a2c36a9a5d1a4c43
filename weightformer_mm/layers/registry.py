"""Registry of predictors by name; the error for an unknown name lists the valid ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class PredictorRegistry:
    """The prediction strategies of one kind of dynamic layer; ``'static'`` predicts nothing.

    A predictor is a module built from the layer's sizes. Called with the layer's input ``(B, H, W, C)``, it
    returns an update of the layer's static weight for each image. A new strategy only has to be registered:

        @WEIGHT_PREDICTORS.register('mine')
        class MyPredictor(nn.Module): ...
    """

    def __init__(self, kind: str):
        self._kind = kind
        self._factories: dict[str, Callable[..., nn.Module] | None] = {'static': None}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Class decorator that registers a predictor as ``name``; a name already taken raises a KeyError."""

        def decorator(factory: Any) -> Any:
            if name in self._factories:
                raise KeyError(f'{self._kind} strategy {name!r} is already registered')
            self._factories[name] = factory
            return factory

        return decorator

    def names(self) -> tuple[str, ...]:
        """The registered strategies, in order of registration; ``'static'`` is the first."""
        return tuple(self._factories)

    def check(self, name: str) -> None:
        """Raise a ValueError that lists the valid names unless ``name`` is one of them."""
        if name not in self._factories:
            raise ValueError(
                f'unknown {self._kind} strategy {name!r}; choose one of {", ".join(self.names())}'
            )

    def build(self, name: str, **sizes: int) -> nn.Module | None:
        """Build the predictor ``name``; None for ``'static'``; raises as `check` does for an unknown name."""
        self.check(name)
        factory = self._factories[name]
        return None if factory is None else factory(**sizes)


WEIGHT_PREDICTORS = PredictorRegistry('dynamic linear')
KERNEL_PREDICTORS = PredictorRegistry('dynamic convolution')
