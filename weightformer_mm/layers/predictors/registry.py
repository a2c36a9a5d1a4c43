"""Name → predictor, with the valid names in the error for an unknown one."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


class PredictorRegistry:
    """The prediction strategies that one kind of dynamic layer can choose from.

    A predictor is a module built from the layer's sizes; called with the layer's input ``(B, H, W, C)``
    it returns an update of the layer's static weight for each image. A factory that returns None
    predicts nothing. Registering a class is all that a new strategy needs:

        @WEIGHT_PREDICTORS.register('mine')
        class MyPredictor(nn.Module): ...
    """

    def __init__(self, kind: str):
        self._kind = kind
        self._factories: dict[str, Callable[..., nn.Module | None]] = {}

    def register(self, name: str):
        """Class decorator that registers under ``name``; a name already taken raises a KeyError."""

        def decorator(factory):
            if name in self._factories:
                raise KeyError(f'{self._kind} strategy {name!r} is already registered')
            self._factories[name] = factory
            return factory

        return decorator

    def names(self) -> tuple[str, ...]:
        """The registered strategies, in order of registration."""
        return tuple(self._factories)

    def check(self, name: str) -> None:
        """Raise a ValueError that lists the valid names unless ``name`` is one of them."""
        if name not in self._factories:
            raise ValueError(
                f'unknown {self._kind} strategy {name!r}; choose one of {", ".join(self.names())}'
            )

    def build(self, name: str, **sizes: int) -> nn.Module | None:
        """Build the predictor ``name``; an unknown name raises a ValueError that lists the valid ones."""
        self.check(name)
        return self._factories[name](**sizes)


WEIGHT_PREDICTORS = PredictorRegistry('dynamic linear')
KERNEL_PREDICTORS = PredictorRegistry('dynamic convolution')


@WEIGHT_PREDICTORS.register('static')
@KERNEL_PREDICTORS.register('static')
def predict_nothing(**sizes: int) -> None:
    """The layer keeps its static weight for every image."""
