"""A backbone with a classification head and the methods that timm's users and tools expect of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from timm.layers import select_adaptive_pool2d
from torch import Tensor, nn

from ..arguments import resolve_out_indices
from ..backbones.base import DynamicBackbone
from ..layers import BlockOptions
from ..layers.primitives import Linear

_PREFIX = 'backbone.'
_POOLS = ('avg', 'max', 'avgmax', 'catavgmax', '')


class ImageClassifier(nn.Module):
    """Mean over the tokens of the last, normalised map, then a linear layer (arXiv 2605.01711).

    The backbone is the attribute ``backbone``, so a detector or segmentor can load the weights as they are.

    Args:
        network: class of the backbone.
        arch: its arch, by name or as a dict.
        num_classes: 0 leaves the head out.
        in_chans: channels of the image.
        global_pool: ``'avg'``, as published, ``'max'``, ``'avgmax'``, ``'catavgmax'`` (both),
            or ``''`` for maps: of classes or, with ``num_classes=0``, of channels.
        drop_rate: dropout before the head.
        proj_drop_rate: dropout in the MLP of each block, ``drop_rate`` of `BlockOptions`.
        output_stride: of `PyramidWeightFormer`; None keeps its own. `WeightFormer` has no such option.
        **block_options: the other fields of `BlockOptions`.

    Raises:
        ValueError: for an unknown arch, strategy or pooling, or another output stride.
    """

    def __init__(
        self,
        network: type[DynamicBackbone],
        arch: str | Mapping[str, Any],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        output_stride: int | None = None,
        **block_options: Any,
    ):
        super().__init__()
        options = vars(BlockOptions(proj_drop_rate, **block_options))
        if output_stride is not None:
            options = {**options, 'output_stride': output_stride}
        self.backbone = network(arch=arch, in_channels=in_chans, out_indices=-1, **options)
        self.in_chans = in_chans
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    @property
    def num_features(self) -> int:
        """Channels of `forward_features`' output; for those of the head's input see `head_hidden_size`."""
        return self.backbone.out_channels[0]

    @property
    def head_hidden_size(self) -> int:
        """Channels of the head's input."""
        return self.num_features * (2 if self.global_pool == 'catavgmax' else 1)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels, stride (``reduction``) and module of each unit's map, ``(B, H, W, C)`` in that module."""
        sizes = zip(self.backbone.unit_channels, self.backbone.unit_strides)
        units = f'{_PREFIX}{self.backbone.unit_name}'
        return [
            dict(num_chs=channels, reduction=stride, module=f'{units}.{index}')
            for index, (channels, stride) in enumerate(sizes)
        ]

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head; ``global_pool`` None keeps the pooling. ValueError for an unknown one."""
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in _POOLS:
            raise ValueError(f'unknown global_pool {pool!r}; choose one of {_POOLS}')
        self.num_classes = num_classes
        self.global_pool = pool
        head = Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        self.head = head.to(next(self.backbone.parameters())).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.backbone.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """No names: as published, biases and norms have no weight decay, and timm exempts vectors anyway."""
        return set()

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Depth of a parameter, for timm's layer decay and grouping.

        The stem is 0. Then come the blocks (with ``coarse``, the units), each with the downsampling before
        it, then norm and head together.
        """

        def depth_of(name: str) -> int:
            depth, count = self.backbone.get_layer_depth(name, _PREFIX)
            unit = name[len(_PREFIX) :].split('.')  # such as stages.2.downsample.conv.weight
            return int(unit[1]) + 1 if coarse and depth not in (0, count - 1) else depth

        return depth_of

    def forward_features(self, x: Tensor) -> Tensor:
        """``(B, in_chans, H, W) -> (B, C, ceil(H/stride), ceil(W/stride))``, normalised."""
        return self.backbone(x)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """``(B, C, H', W') -> (B, num_classes)``: pool, drop, classify; ``pre_logits`` skips the last.

        Without pooling, the head classifies each pixel: ``(B, num_classes, H', W')``.
        """
        if self.global_pool:
            is_mean = self.global_pool == 'avg'
            x = (
                x.mean(dim=(2, 3))
                if is_mean
                else select_adaptive_pool2d(x, self.global_pool).flatten(1)
            )
        x = self.head_drop(x)
        if pre_logits or not self.num_classes:
            return x
        if self.global_pool:
            return self.head(x)
        return self.head(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps after the chosen units.

        Args:
            x: ``(B, in_chans, H, W)``.
            indices: units, in any order; an int n chooses the last n, None all. Maps come in the network's
                order, each once, as in timm.
            norm: normalise maps with the final map's width and stride like that map.
            stop_early: run no unit after the last chosen one; always the case with ``intermediates_only``.
            output_fmt: format of the intermediate maps, ``'NCHW'`` or ``'NHWC'``.
            intermediates_only: return only the intermediate maps.

        Returns:
            The final map, as from `forward_features` (if units were left out, the map after the last one that
            ran, without the norm), and the list of intermediate maps.

        Raises:
            ValueError: for units that do not exist, another format, or an image smaller than one patch.
        """
        if output_fmt not in ('NCHW', 'NHWC'):
            raise ValueError(f"unknown output_fmt {output_fmt!r}; choose 'NCHW' or 'NHWC'")
        chosen = take_indices(indices, len(self.backbone.units))
        (last,) = self.backbone.out_indices
        run = chosen if stop_early or intermediates_only else tuple(sorted({*chosen, last}))
        maps = dict(zip(run, self.backbone.intermediates(x, run)))
        sizes = list(zip(self.backbone.unit_channels, self.backbone.unit_strides))

        def normalised(index: int) -> Tensor:
            if sizes[index] != sizes[last]:
                return maps[index]
            return self.backbone.output(last, maps[index].permute(0, 2, 3, 1))

        intermediates = [normalised(index) if norm else maps[index] for index in chosen]
        if output_fmt == 'NHWC':
            intermediates = [x.permute(0, 2, 3, 1) for x in intermediates]
        if intermediates_only:
            return intermediates
        return normalised(last) if last in run else maps[run[-1]], intermediates

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove the units after the last of ``indices`` and, if there are any, the final norm and the head.

        ``prune_norm`` and ``prune_head`` remove norm and head even if the last unit stays. Returns the
        indices of the chosen units, from 0.
        """
        chosen = take_indices(indices, len(self.backbone.units))
        is_cut = chosen[-1] < self.backbone.out_indices[0]
        if is_cut or prune_norm:
            self.backbone.keep_units(chosen[-1:])
        if is_cut or prune_head:
            self.reset_classifier(0, '')
        return list(chosen)


def take_indices(indices: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Unit indices, from 0, in order and each once, for what timm's users pass.

    Args:
        indices: a sequence, n for the last n, None for all.

    Raises:
        ValueError: if one is out of range.
    """
    if isinstance(indices, int) and not 1 <= indices <= count:
        raise ValueError(f'expected the last 1 to {count} maps, or a sequence; got {indices}')
    if indices is None or isinstance(indices, int):
        return tuple(range(count - (indices or count), count))
    in_order = sorted({index + count if -count <= index < 0 else index for index in indices})
    return resolve_out_indices(in_order, count, 'maps')
