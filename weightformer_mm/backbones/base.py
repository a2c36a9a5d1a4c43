from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from mmengine.model import BaseModule, PretrainedInit, initialize, update_init_info
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import (
    KERNEL_PREDICTORS,
    WEIGHT_PREDICTORS,
    AttentionBlock,
    DynamicBlock,
    StaticBlock,
    run_recomputed,
    set_backend,
)
from ..layers.pattern import is_dynamic
from ..layers.primitives import LayerNorm
from ..ops._shared.compat import is_compiling
from ..ops._shared.dispatch import is_transformed
from .arch import resolve_out_indices
from .fixed_size import fixed_size

Result = TypeVar('Result')


class DynamicBackbone(BaseModule):
    """What the isotropic and the pyramid network share: units, output norms, freezing, layer depth.

    A unit is what an output comes after: a block of the isotropic network, a stage of the pyramid. A
    subclass sets the attributes below and builds no unit that its last output does not need, so every
    parameter gets a gradient.
    """

    arch_settings: Mapping[str, Mapping[str, Any]]
    out_indices: tuple[int, ...]
    unit_channels: tuple[int, ...]  # per unit that is built
    unit_strides: tuple[int, ...]  # per unit that is built, in pixels of the input
    first_blocks: tuple[int, ...]  # per unit that is built, the index of its first block
    least_size: int  # in pixels
    num_blocks: int  # of the whole network, built or not

    def __init__(
        self,
        with_cp: bool,
        memory_efficient: bool,
        backend: str,
        frozen_stages: int,
        init_cfg: dict | list | None,
    ):
        super().__init__(init_cfg)
        self.with_cp = with_cp
        self.memory_efficient = memory_efficient
        self.backend = backend
        self.frozen_stages = frozen_stages

    def init_weights(self) -> None:
        """As mmengine does, but ``init_cfg=dict(type='Pretrained', ...)`` strictly: see `load_pretrained`.

        Raises:
            UserError: the weights cannot be had, or are not this network's.
        """
        given = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg or {}]
        pretrained = [cfg for cfg in given if cfg.get('type') in ('Pretrained', PretrainedInit)]
        if not pretrained or self.is_init:
            super().init_weights()
            return
        # imported here, since reading checkpoints builds on the backbones' names
        from ..checkpoints.pretrained import load_pretrained

        others = [cfg for cfg in given if cfg not in pretrained]
        if others:
            initialize(self, others)
        for cfg in pretrained:
            load_pretrained(self, **{key: value for key, value in cfg.items() if key != 'type'})
            if hasattr(self, '_params_init_info'):
                update_init_info(self, f'pretrained weights of {cfg["checkpoint"]}')
        self.is_init = True

    @classmethod
    def describe_sizes(cls, weights: Mapping[str, Tensor]) -> str | None:
        """The arch of ``weights``, by name and numbers; None if they are not of such a network."""
        sizes = cls.read_sizes(weights)
        if sizes is None:
            return None
        names = [name for name, settings in cls.arch_settings.items() if settings == sizes]
        numbers = ', '.join(f'{key}={value}' for key, value in sizes.items())
        return f'{"/".join(names)} ({numbers})' if names else f'a {cls.__name__} with {numbers}'

    @staticmethod
    def read_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The arch settings that weights of this network were built with; None for other weights."""
        raise NotImplementedError

    @staticmethod
    def build_blocks(
        channels: Sequence[int],
        total: int,
        drop_rate: float,
        drop_path_rate: float,
        token_mixer: str,
        dynamic_linear: str,
        dynamic_conv: str,
        dynamic_every: int,
    ) -> list[nn.Module]:
        """Build the first ``len(channels)`` of ``total`` blocks; drop path grows linearly to the last."""
        mixers = {
            'dynamic': partial(
                DynamicBlock, dynamic_linear=dynamic_linear, dynamic_conv=dynamic_conv
            ),
            'attention': AttentionBlock,
        }
        if token_mixer not in mixers:
            raise ValueError(
                f'unknown token_mixer {token_mixer!r}; choose one of {", ".join(mixers)}'
            )
        if not isinstance(dynamic_every, int) or dynamic_every < 1:
            raise ValueError(f'expected dynamic_every of at least 1, got {dynamic_every}')
        # attention has no use for them; a misspelt one is wrong all the same
        WEIGHT_PREDICTORS.check(dynamic_linear)
        KERNEL_PREDICTORS.check(dynamic_conv)
        rates = torch.linspace(0, drop_path_rate, total, device='cpu').tolist()
        return [
            (mixers[token_mixer] if is_dynamic(index, dynamic_every) else StaticBlock)(
                width, drop_rate, rate
            )
            for index, (width, rate) in enumerate(zip(channels, rates))
        ]

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each output."""
        return tuple(self.unit_channels[index] for index in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Stride of each output, in pixels of the input."""
        return tuple(self.unit_strides[index] for index in self.out_indices)

    @property
    def units(self) -> nn.ModuleList:
        """The units that are built, in order."""
        raise NotImplementedError

    def unit_parts(self, index: int) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        """The modules that lead from the unit before (or the image) to unit ``index``, and its blocks."""
        raise NotImplementedError

    def finish(self) -> None:
        """What every constructor ends with: norms of the outputs, backend, freezing."""
        self.add_output_norms()
        set_backend(self, self.backend)
        self.freeze()

    def add_output_norms(self) -> None:
        """A LayerNorm ``norm{i}`` for each output, and for no other."""
        for index, channels in zip(self.out_indices, self.out_channels):
            self.add_module(f'norm{index}', LayerNorm(channels))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``(B, in_channels, H, W)`` → a ``(B, C_i, ceil(H/stride_i), ceil(W/stride_i))`` per output."""
        return tuple(self.run_units(image, self.out_indices, self.output))

    def intermediates(self, image: Tensor, indices: int | Sequence[int]) -> list[Tensor]:
        """The maps after the chosen units, without an output norm; no unit after the last one runs.

        Args:
            image: ``(B, in_channels, H, W)``.
            indices: units, from 0 or, negative, from the end of what is built; in increasing order.

        Returns:
            For each a ``(B, ceil(H/stride_i), ceil(W/stride_i), C_i)``.

        Raises:
            ValueError: for a unit that does not exist, or an image smaller than one patch.
        """
        chosen = resolve_out_indices(indices, len(self.units), 'units')
        return self.run_units(image, chosen, lambda index, x: x)

    def run_units(
        self, image: Tensor, chosen: Sequence[int], take: Callable[[int, Tensor], Result]
    ) -> list[Result]:
        """``take(index, map)`` of each chosen unit, as soon as there is its map; others are not kept.

        Args:
            image: ``(B, in_channels, H, W)``.
            chosen: units, from 0, in increasing order.
            take: is given the map ``(B, H_i, W_i, C_i)`` after unit ``index``.
        """
        self.check_image(image)
        x = fixed_size(image)
        taken = []
        for index in range(chosen[-1] + 1):
            entrance, blocks = self.unit_parts(index)
            for module in entrance:
                x = module(x)
            for block in blocks:
                x = self.run_block(block, x)
            x = self.hand_on(index, x)
            if index in chosen:
                taken.append(take(index, x))
        return taken

    def hand_on(self, index: int, x: Tensor) -> Tensor:
        """The map after unit ``index``, once the unit itself was called."""
        return x

    def drop_units_after(self, last: int) -> None:
        """Keep the units up to ``last``: its map, without a norm, becomes the only output."""
        for index in self.out_indices:
            delattr(self, f'norm{index}')
        del self.units[last + 1 :]
        self.unit_channels = self.unit_channels[: last + 1]
        self.unit_strides = self.unit_strides[: last + 1]
        self.first_blocks = self.first_blocks[: last + 1]
        self.out_indices = (last,)
        self.add_module(f'norm{last}', nn.Identity())

    def output(self, index: int, x: Tensor) -> Tensor:
        """Normalise output ``index``; ``(B, H, W, C) -> (B, C, H, W)``."""
        output = getattr(self, f'norm{index}')(x).permute(0, 3, 1, 2)
        # A convolution hands a channels-last layout on to its output, and mmcv's RoIAlign then reads the
        # memory as if it were NCHW: wrong features, no error.
        return output.contiguous()

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run a block, keeping for the backward pass what ``with_cp`` and ``memory_efficient`` say."""
        # torch.func and forward-mode derivatives do not go through checkpoints
        if not torch.is_grad_enabled() or is_transformed():
            return block(x)
        if self.with_cp:
            return checkpoint(block, x, use_reentrant=False)
        # a compiler decides itself what to compute again
        if self.memory_efficient and not is_compiling():
            return run_recomputed(block, x)
        return block(x)

    def check_image(self, image: Tensor) -> None:
        """Raise a ValueError if the image is smaller than one patch."""
        height, width = image.shape[-2:]
        if min(height, width) < self.least_size:
            raise ValueError(
                f'{type(self).__name__} needs images of at least {self.least_size}x{self.least_size} '
                f'pixels, got {height}x{width}'
            )

    def frozen_modules(self) -> list[nn.Module]:
        """What ``frozen_stages`` freezes: units with what leads to them, and their output norms."""
        if self.frozen_stages < 0:
            return []
        frozen = range(self.frozen_stages)
        norms = [getattr(self, f'norm{index}') for index in self.out_indices if index in frozen]
        return [*self.unit_parts(0)[0], *self.units[: self.frozen_stages], *norms]

    def block_index(self, name: str) -> int | None:
        """Index of the block that parameter ``name`` trains with; -1 for the stem, None after the blocks."""
        raise NotImplementedError

    def check_frozen_stages(self, built: int) -> None:
        """Raise a ValueError unless ``frozen_stages`` is from -1 to the number of stages built."""
        if not -1 <= self.frozen_stages <= built:
            raise ValueError(f'expected frozen_stages from -1 to {built}, got {self.frozen_stages}')

    def freeze(self) -> None:
        for module in self.frozen_modules():
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad = False

    def train(self, mode: bool = True):
        """Set the training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        if mode:
            self.freeze()
        return self

    def get_layer_depth(self, name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning rate decay.

        Args:
            name: the parameter's name in the whole model.
            prefix: what stands before the backbone's own name, such as ``'backbone.'``.

        Returns:
            ``(depth, num_layers)``: the stem is 0, block ``i`` (with the downsampling before it) is
            ``i + 1``, output norms are ``num_layers - 1``, as is what lies outside the backbone.
        """
        num_layers = self.num_blocks + 2
        if not name.startswith(prefix):
            return num_layers - 1, num_layers
        index = self.block_index(name[len(prefix) :])
        return (num_layers - 1 if index is None else index + 1), num_layers
