"""What an exported file computes: features, scores or labels of images, and of nothing beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..ops import pool_grid
from .labels import last_head

_OTHERS = 1e-3  # share of the pixels


class Exportable(nn.Module):
    """A model as a function of images of one size.

    Images are floats ``(B, C, H, W)`` as the model's preprocessor makes them; with preprocessing, bytes
    ``(B, H, W, C)`` as they are loaded.

    Attributes:
        output: name of what it returns.
        axes: of an image that may be of any length, with their names.
        multiple: sides of images are multiples of it, in pixels.
    """

    output: str
    last = 'neck'  # of the parts whose maps may be those of an image at its own size
    multiple = 1

    def __init__(self, model: nn.Module, with_preprocessing: bool):
        super().__init__()
        self.model = model
        self.axes = {0: 'batch', 2: 'height', 3: 'width'}
        self.channels = getattr(model.backbone, 'in_channels', 3)
        self.divisor, self.preparation = 1, None
        if with_preprocessing:
            self.axes = {0: 'batch', 1: 'height', 2: 'width'}
            self._prepare(model.data_preprocessor)

    @classmethod
    def fits(cls, model: Any, backbone: bool) -> bool:
        """Whether this is how to export a model, or its backbone."""
        raise NotImplementedError

    def _prepare(self, preprocessor: Any) -> None:
        self.divisor = divisor_of(preprocessor)
        notes = getattr(preprocessor, 'notes_sizes', False)
        at_own_size = notes and hasattr(self.model.backbone, 'output_sizes')
        self.preparation = _Preparation(preprocessor, 1 if at_own_size else self.divisor)
        if at_own_size and self.divisor > 1:
            self._pad_maps()

    def _pad_maps(self) -> None:
        """Let the last part that computes an image at its own size pad its maps."""
        divisor, most, name = self.divisor, self.divisor, 'backbone'
        if self.last == 'neck' and hasattr(getattr(self.model, 'neck', None), 'output_sizes'):
            divisor = max(divisor // self.model.backbone.out_strides[0], 1)
            most, name = 4 * divisor, 'neck'  # which enlarges four times
        part = _AtOwnSize(getattr(self.model, name), divisor, most)
        setattr(self.model, name, part)

    def names(self, count: int) -> list[str]:
        """Of so many outputs."""
        return [self.output] if count == 1 else [f'{self.output}{index}' for index in range(count)]

    def sides(self, output: Tensor) -> Sequence[int]:
        """Axes of an output that follow from the size of the images."""
        return range(output.ndim)[-2:] if output.ndim > 2 else ()

    def prepared(self, image: Tensor) -> Tensor:
        """What the backbone reads, ``(B, C, H, W)``."""
        return image if self.preparation is None else self.preparation(image)

    def size(self, image: Tensor) -> tuple[int, int]:
        """Height and width of an image."""
        _, rows, columns = self.axes
        return image.shape[rows], image.shape[columns]

    def padded_size(self, image: Tensor) -> tuple[int, int]:
        """Height and width after padding."""
        height, width = self.size(image)
        return _rounded_up(height, self.divisor), _rounded_up(width, self.divisor)

    def example(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Random images of ``(batch, height, width)``, rounded up, with large and small details."""
        batch, size = shape[0], [_rounded_up(length, self.multiple) for length in shape[1:]]
        coarse = torch.randn(batch, self.channels, 4, 4, generator=generator)
        fine = torch.randn(batch, self.channels, *size, generator=generator)
        image = F.interpolate(coarse, size, mode='bilinear', align_corners=False) + 0.3 * fine
        if self.preparation is None:
            return image
        return (60 * image + 120).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()

    def difference(self, image: Tensor, outputs: Sequence[Tensor]) -> float:
        """Largest difference of a file's outputs from the model's own, in units of their largest value."""
        expected = self(image)
        expected = [expected] if isinstance(expected, Tensor) else expected
        if [x.shape for x in outputs] != [x.shape for x in expected]:
            return math.inf
        return max(
            float((output - truth).abs().max() / truth.abs().max())
            for output, truth in zip(outputs, expected)
        )


class Features(Exportable):
    """The maps of the backbone, ``(B, C, H / stride, W / stride)`` each."""

    output = 'map'
    last = 'backbone'

    def __init__(self, model: nn.Module, with_preprocessing: bool):
        super().__init__(model, with_preprocessing)
        self.model = self.model.backbone

    @classmethod
    def fits(cls, model: Any, backbone: bool) -> bool:
        return backbone and hasattr(model, 'backbone')

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.model(self.prepared(image))
        return (maps,) if isinstance(maps, Tensor) else tuple(maps)


class Classifier(Exportable):
    """The probability of each class, ``(B, classes)``."""

    output = 'scores'

    @classmethod
    def fits(cls, model: Any, backbone: bool) -> bool:
        head = getattr(model, 'head', None)
        return not backbone and defined_by(head, '_get_predictions', 'ClsHead')

    def forward(self, image: Tensor) -> Tensor:
        return self.model(self.prepared(image)).softmax(1)


class Segmentor(Exportable):
    """The class of each pixel, ``(B, H, W)``."""

    output = 'labels'

    def __init__(self, model: nn.Module, with_preprocessing: bool):
        super().__init__(model, with_preprocessing)
        model.auxiliary_head = None  # a file needs no weights that only train

    @classmethod
    def fits(cls, model: Any, backbone: bool) -> bool:
        if backbone or not hasattr(model, 'encode_decode'):
            return False
        is_whole = model.test_cfg.get('mode', 'whole') == 'whole'
        return is_whole and defined_by(last_head(model), 'predict_by_feat', 'BaseDecodeHead')

    def logits(self, image: Tensor) -> Tensor:
        """Of each class at the size of the image, ``(B, classes, H, W)``."""
        meta = dict(img_shape=self.padded_size(image))
        logits = self.model.encode_decode(self.prepared(image), [meta])
        height, width = self.size(image)
        logits = logits[:, :, :height, :width]
        head = last_head(self.model)
        if head.out_channels == 1:  # of being no background
            bias = math.log(head.threshold / (1 - head.threshold))
            logits = torch.cat([torch.zeros_like(logits), logits - bias], dim=1)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        return self.logits(image).argmax(1)

    def difference(self, image: Tensor, outputs: Sequence[Tensor]) -> float:
        """By how much a label's logit is below the largest, in units of the largest value of a logit.

        Where two classes are equal to the last digit, either of them is right, but not for many pixels.
        """
        logits, labels = self.logits(image), outputs[0]
        expected = logits.argmax(1)
        if labels.shape != expected.shape or (labels != expected).float().mean() > _OTHERS:
            return math.inf
        chosen = logits.gather(1, labels[:, None].long())[:, 0]
        return float((logits.amax(1) - chosen).max() / logits.abs().max())


class _Preparation(nn.Module):
    """What a preprocessor does at test time: bytes ``(B, H, W, C)`` → floats ``(B, C, H', W')``."""

    def __init__(self, preprocessor: Any, divisor: int):
        super().__init__()
        normalises = preprocessor._enable_normalize
        for name, neutral in (('mean', 0.0), ('std', 1.0)):
            value = getattr(preprocessor, name) if normalises else torch.tensor(neutral)
            self.register_buffer(name, value)
        # mmengine's, and mmpretrain's
        self.swaps = any(getattr(preprocessor, n, False) for n in ('_channel_conversion', 'to_rgb'))
        self.value = preprocessor.pad_value
        self.divisor = divisor

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).float()
        if self.swaps:
            x = x.flip(1)
        size = [_rounded_up(length, self.divisor) for length in x.shape[2:]]
        return _padded((x - self.mean) / self.std, self.divisor, size, self.value)


class _AtOwnSize(nn.Module):
    """A part's maps of an image alone, with zeros up to those of a padded image: see `at_own_sizes`."""

    def __init__(self, part: nn.Module, divisor: int, most: int):
        super().__init__()
        self.part = part
        self.divisor = divisor
        self.most = most

    def forward(self, x: Any) -> tuple[Tensor, ...]:
        shape = (x if isinstance(x, Tensor) else x[0]).shape
        sizes = self.part.output_sizes([_rounded_up(side, self.divisor) for side in shape[2:]])
        return tuple(_padded(out, self.most, size) for out, size in zip(self.part(x), sizes))


class _MeansOfCells(nn.Module):
    """``nn.AdaptiveAvgPool2d``, whose cells an exporter would keep as they are at the traced size."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return pool_grid(x.permute(0, 2, 3, 1), self.size).permute(0, 3, 1, 2)


def use_size_free_layers(model: nn.Module) -> None:
    """Put equal layers in the place of those that would keep numbers of the traced size."""
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.AdaptiveAvgPool2d):
                sides = layer.output_size
                sides = {sides} if isinstance(sides, int) else set(sides)
                if len(sides) == 1 and sides.isdisjoint({1, None}):
                    setattr(module, name, _MeansOfCells(sides.pop()))
            elif type(layer).__module__ == 'mmseg.models.utils.wrappers' and layer.size is None:
                options = dict(mode=layer.mode, align_corners=layer.align_corners)
                setattr(module, name, nn.Upsample(None, layer.scale_factor, **options))


def defined_by(part: Any, name: str, owner: str) -> bool:
    """Whether a part of a model has a method as a class of its library defines it."""
    return getattr(getattr(part, name, None), '__qualname__', '') == f'{owner}.{name}'


def divisor_of(preprocessor: Any) -> int:
    """Sides of images are padded to multiples of it at test time."""
    if hasattr(preprocessor, 'size_divisor'):  # mmseg's, whose own divisor is for training
        padding = preprocessor.test_cfg or {}
        if padding.get('size'):
            raise UserError(
                '--with-preprocessing: padding to model.data_preprocessor.test_cfg.size is not exported; '
                'use size_divisor, or leave the option out'
            )
        return padding.get('size_divisor') or 1
    divisor = getattr(preprocessor, 'test_pad_size_divisor', None)
    return preprocessor.pad_size_divisor if divisor is None else divisor


def _padded(x: Tensor, most: int, size: Sequence[int], value: float = 0) -> Tensor:
    """Pad the right and the bottom of ``(B, C, H, W)`` to a size, which is less than ``most`` larger.

    Not all exporters take a padding that follows from a size; all take a slice.
    """
    if most == 1:
        return x
    x = F.pad(x, (0, most - 1, 0, most - 1), value=value)
    for length, side in zip(x.shape[2:], size):
        state(side <= length)
    return x[:, :, : size[0], : size[1]]


def state(fact: Any) -> None:
    """Tell ``torch.export`` what it does not find out about sizes; other exporters need not know."""
    if not torch.jit.is_tracing():
        torch._check(fact)


def _rounded_up(length: int, divisor: int) -> int:
    # the older exporter of ONNX rounds a quotient towards zero
    return length if divisor == 1 else (length + divisor - 1) // divisor * divisor
