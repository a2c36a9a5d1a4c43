"""What is measured: a backbone by name, or the whole model of a config file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from weightformer_mm.analysis.complexity import measure

from .contenders import Contender, parse_contenders
from .detector import Detector
from .steps import Case, Step, backbone_step

# PyTorch's convention: the backward pass takes twice the multiply-adds of the forward pass
TRAINING_FACTOR = 3


class Subject(ABC):
    """Something that is built, and of which a step is measured."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As in the column ``contender``."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What `subject_from` makes it from in another process; JSON."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, on the CPU, with random weights."""

    def prepare(self, model: nn.Module) -> Callable[..., Any]:
        """What is called instead of the model, once that is on its device."""
        return model

    @abstractmethod
    def step(
        self, model: nn.Module, call: Callable[..., Any], case: Case, device: torch.device
    ) -> Step:
        """One step; ``call`` is what `prepare` made of the model."""

    def refuses(self, height: int, width: int) -> str | None:
        """Why it cannot run on images of this size; None if it can."""
        return None

    @abstractmethod
    def multiply_adds(self, case: Case) -> int | None:
        """Of one step; None where there is no convention for it."""


@dataclass(frozen=True)
class Backbone(Subject):
    """A line of the table of contenders."""

    contender: Contender

    @property
    def name(self) -> str:
        return self.contender.name

    def spec(self) -> dict[str, Any]:
        return {'backbone': self.name}

    def build(self) -> nn.Module:
        return self.contender.build()

    def prepare(self, model: nn.Module) -> Callable[..., Any]:
        return self.contender.prepare(model)

    def step(
        self, model: nn.Module, call: Callable[..., Any], case: Case, device: torch.device
    ) -> Step:
        return backbone_step(model, case, device, call)

    def refuses(self, height: int, width: int) -> str | None:
        return self.contender.refuses(height, width)

    def multiply_adds(self, case: Case) -> int:
        factor = TRAINING_FACTOR if case.mode == 'train' else 1
        return _forward_multiply_adds(self.contender.work, case.size) * case.batch * factor


@cache
def _forward_multiply_adds(work: Contender, size: tuple[int, int]) -> int:
    """Of one image; ``work`` has none of the variants that a count on the CPU would not understand."""
    return measure(work.build(), size).total.multiply_adds


@dataclass(frozen=True)
class WholeModel(Subject):
    """The detector or segmentor of a config file."""

    detector: Detector

    @property
    def name(self) -> str:
        return self.detector.name

    def spec(self) -> dict[str, Any]:
        return {'config': self.detector.config, 'options': list(self.detector.options)}

    def build(self) -> nn.Module:
        return self.detector.build()

    def step(
        self, model: nn.Module, call: Callable[..., Any], case: Case, device: torch.device
    ) -> Step:
        return self.detector.step(model, case, device)

    def multiply_adds(self, case: Case) -> int | None:
        if case.mode == 'train':  # losses work on other proposals than inference does
            return None
        return measure(self.build(), case.size).total.multiply_adds * case.batch


def subject_from(spec: Mapping[str, Any]) -> Subject:
    """The subject that has this `Subject.spec`."""
    if 'backbone' in spec:
        return Backbone(parse_contenders([spec['backbone']])[0])
    return WholeModel(Detector(spec['config'], tuple(spec['options'])))
