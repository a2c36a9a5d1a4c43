"""Mixed precision on whichever device is available."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ...config.read import type_name
from ...errors import UserError
from ...utils.patches import return_float32

# the last two belong to mmcv's MultiScaleDeformableAttention; its operator takes their outputs
_FLOAT32_PARTS = ('backbone', 'neck', 'head', 'value_proj', 'attention_weights')


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """bfloat16 autocast without loss scaling, also on the CPU.

    mmengine's ``AmpOptimWrapper`` needs a GPU. bfloat16 has the range of float32, so there is nothing to
    scale. mmcv's operators (RoIAlign, NMS, deformable attention) do not accept bfloat16, so the outputs of
    backbone, neck and heads, and the values and weights of deformable attention, are cast to float32.

    Args:
        device_types: devices that compute in bfloat16, such as ``['cuda']``; on others this is a plain
            ``OptimWrapper``, in float32. None: all devices; an empty list: none.
        args, kwargs: those of ``OptimWrapper``.

    Raises:
        UserError: on first use, if the GPU does not support bfloat16.
    """

    def __init__(
        self, *args: Any, device_types: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._device_types = device_types
        self._prepared = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = torch.device(get_device()).type
        if self._device_types is not None and device not in self._device_types:
            with super().optim_context(model):
                yield
            return
        if not self._prepared:
            if device == 'cuda' and not torch.cuda.is_bf16_supported():
                raise UserError(
                    f'{torch.cuda.get_device_name()} has no bfloat16; for float32: --cfg-options '
                    'optim_wrapper.device_types=[]'
                )
            _hand_over_float32(model)
            self._prepared = True
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


def half_precision(model: nn.Module) -> torch.autocast:
    """A context in which ``model`` predicts in half precision: float16, or bfloat16 on a CPU.

    Its parts hand over float32, as under `Bf16OptimWrapper`, from now on.

    Raises:
        UserError: the device of the model does not compute in that type.
    """
    device = next(model.parameters()).device
    dtype = torch.bfloat16 if device.type == 'cpu' else torch.float16
    try:
        context, one = torch.autocast(device.type, dtype), torch.ones(1, 1, device=device)
        with context:
            works = (one @ one).dtype == dtype
    except RuntimeError:  # no autocast for this kind of device
        works = False
    if not works:
        raise UserError(
            f'--half: no {str(dtype)[6:]} on the device {device}; run it without --half'
        )
    _hand_over_float32(model)
    return context


def _hand_over_float32(model: nn.Module) -> None:
    """Let backbone, neck, heads and parts of deformable attention return float32."""
    for name, module in model.named_modules():
        # the heads of a cascade are a list
        part = next((p for p in reversed(name.split('.')) if not p.isdigit()), '')
        if part in _FLOAT32_PARTS or part.endswith('_head'):
            return_float32(module)


def use_amp(cfg: Config) -> None:
    """Switch ``cfg.optim_wrapper`` to mixed precision.

    CUDA: mmengine's ``AmpOptimWrapper``, with the config's loss scale or else a dynamic one. CPU: bfloat16.
    If the config has a ``Bf16OptimWrapper``, it stays one on any device.

    Raises:
        UserError: the config uses another optimizer wrapper, or the device has no autocast.
    """
    wrapper: Any = cfg.optim_wrapper
    kind = type_name({'type': 'OptimWrapper', **wrapper})
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'Bf16OptimWrapper'):
        raise UserError(f'--amp cannot be combined with optim_wrapper.type={kind} of the config')
    device = torch.device(get_device()).type
    if kind == 'Bf16OptimWrapper':
        wrapper.pop('device_types', None)
        return
    if device == 'cuda':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    elif device == 'cpu':
        wrapper.type = 'Bf16OptimWrapper'
        wrapper.pop('loss_scale', None)
        wrapper.pop('dtype', None)
    else:
        raise UserError(f'--amp is not available on the device {device!r}')
