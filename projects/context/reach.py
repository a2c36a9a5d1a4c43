"""How far an output sees when it sees only through convolutions, computed from the network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from weightformer_mm.backbones.base import DynamicBackbone
from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear, SelfAttention

# They treat every position of a map on its own; so does LayerNorm on channels-last maps.
_POINTWISE = (nn.Linear, nn.LayerNorm, nn.GELU, nn.ReLU, nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass(frozen=True)
class _Window:
    """Input pixels that position ``i`` of a map depends on: ``stride * i - before ... + after``."""

    before: float = 0
    after: float = 0
    stride: int = 1

    @property
    def reach(self) -> float:
        return max(self.before, self.after)

    def convolved(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> _Window:
        before = self.before + padding * self.stride
        after = self.after + (dilation * (kernel - 1) - padding) * self.stride
        return _Window(before, after, self.stride * stride)

    def enlarged(self, factor: int) -> _Window:
        """After bilinear interpolation to ``factor`` times the positions, corners not aligned.

        Position ``j`` mixes ``floor((j + 1/2) / factor - 1/2)`` and the one after it.
        """
        if factor == 1:
            return self
        step = self.stride // factor
        back = math.ceil(1.5 * factor - 0.5) - 1
        ahead = factor - math.ceil(0.5 * factor - 0.5)
        return _Window(self.before + back * step, self.after + ahead * step, step)


def static_reach(model: nn.Module) -> float:
    """Greatest distance in pixels, along either axis, at which an input still changes an output.

    Holds for images whose sides are multiples of the network's strides. Parameters predicted from the whole
    image and attention reach everywhere: ``math.inf``.

    Args:
        model: a backbone of this package (all of its outputs), or an mmseg segmentor with such a backbone and
            an FCNHead on one level or with ``resize_concat`` (the logits at the size of the image).

    Raises:
        ValueError: any other model, or one with a part whose reach is not known.
    """
    if isinstance(model, DynamicBackbone):
        return max(window.reach for window in _backbone_windows(model))
    if not isinstance(getattr(model, 'backbone', None), DynamicBackbone):
        raise ValueError(
            f'expected a backbone of weightformer_mm or a segmentor of one, got {type(model).__name__}'
        )
    if getattr(model, 'neck', None) is not None or not hasattr(model, 'decode_head'):
        raise ValueError('expected a segmentor without a neck, with one decode_head')
    window = _head_window(model.decode_head, _backbone_windows(model.backbone))
    return window.enlarged(window.stride).reach


def _backbone_windows(backbone: DynamicBackbone) -> list[_Window]:
    """Of each output."""
    window, windows = _Window(), []
    for child in backbone.children():  # in the order in which an image passes them
        if child is not backbone.units:
            window = _through(child, window)
            continue
        for index, unit in enumerate(backbone.units):
            window = _through(unit, window)
            if index in backbone.out_indices:
                windows.append(window)
    return windows


def _through(part: nn.Module, window: _Window) -> _Window:
    """After the convolutions of ``part``, one after the other; a residual path sees less than they do."""
    for module in _leaves(part):
        if isinstance(module, SelfAttention) or getattr(module, 'predictor', None) is not None:
            return _Window(math.inf, math.inf, window.stride)
        if isinstance(module, DynamicDepthwiseConv2d):
            size, dilation = module.kernel_size, module.dilation[0]
            window = window.convolved(size, 1, size // 2 * dilation, dilation)
        elif isinstance(module, nn.Conv2d):
            values = (module.kernel_size, module.stride, module.padding, module.dilation)
            if any(isinstance(value, str) or len(set(value)) > 1 for value in values):
                raise ValueError(f'expected a convolution alike along both axes, got {module}')
            window = window.convolved(*(value[0] for value in values))
        elif not isinstance(module, (*_POINTWISE, DynamicLinear)):
            # DropPath works on whole images, which mixes nothing
            if type(module).__name__ != 'DropPath':
                raise ValueError(f'the reach of {type(module).__name__} is not known')
    return window


def _leaves(part: nn.Module) -> Iterable[nn.Module]:
    """The modules that compute something, in order of registration."""
    children = list(part.children())
    if not children or isinstance(part, (DynamicDepthwiseConv2d, DynamicLinear, SelfAttention)):
        yield part
        return
    for child in children:
        yield from _leaves(child)


def _head_window(head: nn.Module, windows: list[_Window]) -> _Window:
    if type(head).__name__ != 'FCNHead' or head.input_transform not in (None, 'resize_concat'):
        raise ValueError(
            f'the reach of {type(head).__name__} is not known; expected FCNHead on one level or with '
            'resize_concat'
        )
    if head.align_corners:
        raise ValueError('expected a head with align_corners=False')
    levels = [head.in_index] if head.input_transform is None else head.in_index
    finest = windows[levels[0]].stride
    parts = [windows[level].enlarged(windows[level].stride // finest) for level in levels]
    window = _Window(max(p.before for p in parts), max(p.after for p in parts), finest)
    for part in (head.convs, *([head.conv_cat] if head.concat_input else []), head.conv_seg):
        window = _through(part, window)
    return window
