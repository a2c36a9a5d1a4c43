from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, PretrainedInit, initialize, update_init_info
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..arguments import check_options, integer, resolve_out_indices
from ..checkpoints.pretrained import load_pretrained
from ..layers import run_in_strips, run_recomputed, set_backend
from ..layers.fused import as_built, is_hooked, normalise
from ..layers.graphs import Graphs, can_record
from ..layers.primitives import LayerNorm
from ..layers.strips import HALO, channels_first_in_place, in_strips
from ..ops._shared.compat import is_compiling
from ..ops._shared.dispatch import is_exporting, is_traced, is_transformed

MAX_TOKENS = 2**19  # a map of stride 4 has more of them beyond 2896x2896 pixels
Sizes = Sequence[tuple[int, int]]
Forward = Callable[..., tuple[Tensor, ...]]
_SIZES = 'image_sizes'  # attribute of a batch


def set_image_sizes(images: Tensor, sizes: Sizes) -> None:
    """Note the size of each image within a padded batch, for `at_own_sizes`.

    Args:
        images: ``(B, C, H, W)``; the padding is on the right and at the bottom.
        sizes: ``(height, width)`` of each image, in pixels.
    """
    setattr(images, _SIZES, [(int(height), int(width)) for height, width in sizes])


def get_image_sizes(images: Tensor) -> Sizes | None:
    """What `set_image_sizes` noted; None: the images are as large as the batch."""
    return getattr(images, _SIZES, None)


def at_own_sizes(forward: Forward) -> Forward:
    """Run a network on each image of a padded batch at its own size; images of equal size run together.

    The maps of each image are those of the image alone, and zero outside. Sizes are ``(height, width)`` of
    each image in a batch that is padded on the right and at the bottom; by default what `set_image_sizes`
    noted. A batch of no images gives maps of none. The module has ``out_channels`` and
    ``output_sizes(size)``: the size of each output for an image of a size.
    """

    @functools.wraps(forward)
    def run(self: Any, image: Tensor, sizes: Sizes | None = None) -> tuple[Tensor, ...]:
        if not is_traced() and image.dim() == 4 and len(image) == 0:
            shapes = zip(self.out_channels, self.output_sizes(image.shape[-2:]))
            return tuple(image.new_zeros(0, channels, *size) for channels, size in shapes)
        if sizes is None:
            sizes = get_image_sizes(image)
        if sizes is None:
            return forward(self, image)
        # padding completes the only patch of a thin image
        least = [min(getattr(self, 'least_size', 1), side) for side in image.shape[-2:]]
        sizes = [(max(height, least[0]), max(width, least[1])) for height, width in sizes]
        groups = _group(sizes, image.shape)
        if list(groups) == [tuple(image.shape[-2:])]:
            return forward(self, image)
        whole: list[Tensor] = []
        for (height, width), indices in groups.items():
            parts = forward(self, image[indices, :, :height, :width])
            for index, part in enumerate(parts):
                if index == len(whole):
                    size = self.output_sizes(image.shape[-2:])[index]
                    whole.append(part.new_zeros(len(image), part.shape[1], *size))
                whole[index][indices, :, : part.shape[2], : part.shape[3]] = part
        for maps, valid in zip(whole, zip(*map(self.output_sizes, sizes))):
            set_image_sizes(maps, valid)
        return tuple(whole)

    return run


def in_graphs(forward: Forward) -> Forward:
    """Decorator for a network's ``forward``: with ``cuda_graph``, inference on a GPU runs as a CUDA graph.

    The network keeps the graphs of the last shapes in ``graphs``.
    """

    @functools.wraps(forward)
    def run(self: Any, image: Tensor) -> tuple[Tensor, ...]:
        if not self.cuda_graph or not can_record(self, image):
            return forward(self, image)
        return self.graphs.run(forward, self, image)

    return run


def _group(sizes: Sizes, shape: Sequence[int]) -> dict[tuple[int, int], list[int]]:
    """The images of each size, by their index in a batch of a shape."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (height, width) in enumerate(sizes):
        groups.setdefault((height, width), []).append(index)
    largest = tuple(map(max, zip(*groups)))
    if len(sizes) != shape[0] or any(map(operator.gt, largest, shape[-2:])):
        raise ValueError(f'{len(sizes)} images of up to {largest} pixels do not fit {tuple(shape)}')
    return groups


class DynamicBackbone(BaseModule):
    """What both networks share: output norms, recomputation, freezing, layer depth, pretrained weights.

    A unit is what an output follows: a block of the isotropic network, a stage of the pyramid. A subclass
    sets the attributes below and builds no unit after its last output, so that every parameter gets a
    gradient.

    Args:
        frozen_stages: see the subclass.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
        memory_efficient: recompute the cheap parts of each block (LayerNorm, convolution, prediction, GELU),
            and keep the product before GELU where that is faster. ``with_cp`` saves more and takes
            precedence.
        backend: ``'torch'``, ``'triton'``, or ``'auto'``: what ``WEIGHTFORMER_BACKEND`` says, else Triton on
            GPUs where it has been verified.
        init_cfg: mmengine's initialisation; without it, the published one applies.
        in_channels: channels of the image.
        max_tokens: at inference, an image whose first map has more tokens is computed in strips of about as
            many on a GPU, of a quarter elsewhere: the same maps, within rounding, in less memory. A map of
            more channels has strips of fewer tokens.
        cuda_graph: on a GPU, run inference as a CUDA graph, which launches all kernels at once. One is
            recorded for each shape of images, and the last eight are kept with their memory. Elsewhere, in
            training, under a compiler, and where a module has hooks, it changes nothing.
    """

    arch_settings: Mapping[str, Mapping[str, Any]]
    unit_name: str  # of the attribute that lists the units
    first_conv: str  # name of the convolution that reads the image
    out_indices: tuple[int, ...]
    unit_channels: tuple[int, ...]  # per unit that is built
    unit_strides: tuple[int, ...]  # per unit that is built, in pixels of the input
    least_size: int  # in pixels
    num_blocks: int  # of the whole network, including blocks that are not built
    is_init: bool  # mmengine's

    def __init__(
        self,
        frozen_stages: int,
        with_cp: bool,
        memory_efficient: bool,
        backend: str,
        init_cfg: dict | list | None,
        in_channels: int,
        max_tokens: int,
        cuda_graph: bool,
    ):
        super().__init__(init_cfg)
        self.cuda_graph, self.graphs = cuda_graph, Graphs()
        self.in_channels = in_channels
        self.max_tokens = max_tokens
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.memory_efficient = memory_efficient
        self.backend = backend

    def finish(self) -> None:
        """The end of every constructor: norms of the outputs, backend, freezing."""
        for index, channels in zip(self.out_indices, self.out_channels):
            self.add_module(f'norm{index}', LayerNorm(channels))
        set_backend(self, self.backend)
        count = len(self.units)
        check_options(vars(self), {'frozen_stages': integer(-1, count)})
        self.freeze()

    @property
    def units(self) -> nn.ModuleList:
        """The built units, in order."""
        return getattr(self, self.unit_name)

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """What ``frozen_stages=0`` freezes."""
        raise NotImplementedError

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each output."""
        return tuple(self.unit_channels[index] for index in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Stride of each output, in pixels of the input."""
        return tuple(self.unit_strides[index] for index in self.out_indices)

    def output_sizes(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """Height and width of each output for an image of a height and width."""
        height, width = size
        return [(-(-height // stride), -(-width // stride)) for stride in self.out_strides]

    def checked(self, image: Tensor) -> Tensor:
        """The image. An exported network reads no size: it would keep the answer for the traced one.

        Raises:
            ValueError: it is no ``(B, in_channels, H, W)`` of floating point, or smaller than a patch.
        """
        fits = image.dim() == 4 and image.shape[1] == self.in_channels
        if not fits or not image.is_floating_point():
            kind = '' if image.is_floating_point() else f' of {image.dtype}, not of floating point'
            raise ValueError(
                f'expected images (B, {self.in_channels}, H, W) for {type(self).__name__} with '
                f'in_channels={self.in_channels}, got {tuple(image.shape)}{kind}'
            )
        height, width = image.shape[-2:]
        least = self.least_size
        if not is_exporting() and min(height, width) < least:
            raise ValueError(
                f'{type(self).__name__} needs images of at least {least}x{least} pixels, '
                f'got {height}x{width}'
            )
        return image

    def strip_of(self, index: int, tokens: int, on_gpu: bool) -> int | None:
        """Tokens of each strip of a map of unit ``index`` with so many; None if it is computed at once.

        The maps of an image whose first is large are in strips, at inference. A traced network has none.
        Strips are larger on a GPU, where each costs launches.
        """
        if self.training or torch.is_grad_enabled():
            return None
        if is_compiling() or is_traced() or is_transformed():
            return None
        in_first = tokens * (self.unit_strides[index] // self.unit_strides[0]) ** 2
        of_first = self.max_tokens if on_gpu else self.max_tokens // 4
        most = max(1, of_first * self.unit_channels[0] // self.unit_channels[index])
        return most if in_first > self.max_tokens and tokens > most else None

    def run_downsample(
        self, index: int, downsample: nn.Module, x: Tensor, axis: int = 1, halo: int = HALO
    ) -> Tensor:
        """Run what makes the map ``(B, H, W, C)`` of unit ``index`` of an image or another map.

        ``axis`` is that of the rows of ``x``. It reads ``halo`` rows of its output beyond a strip.
        """
        before = self.unit_strides[index - 1] if index else 1
        stride = self.unit_strides[index] // before
        height, width = (-(-side // stride) for side in x.shape[axis : axis + 2])
        strip = self.strip_of(index, height * width, x.is_cuda)
        if strip and as_built(*downsample.modules()):
            return in_strips(downsample, x, strip, stride, axis, halo=halo)
        x = downsample(x)
        return x.clone() if strip else x  # the first block overwrites it

    def run_block(self, index: int, block: nn.Module, x: Tensor) -> Tensor:
        """Run a block of unit ``index``.

        ``with_cp`` and ``memory_efficient`` say what it keeps for the backward pass.
        """
        if strip := self.strip_of(index, x.shape[1] * x.shape[2], x.is_cuda):
            return run_in_strips(block, x, strip)
        # torch.func and forward-mode derivatives do not work with checkpoints
        if not torch.is_grad_enabled() or is_transformed() or is_exporting():
            return block(x)
        if self.with_cp:
            return checkpoint(block, x, use_reentrant=False)
        # a compiler decides for itself what to recompute
        if self.memory_efficient and not is_compiling():
            return run_recomputed(block, x)
        return block(x)

    def run_norm(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Normalise the map of the stem."""
        strip = self.strip_of(0, x.shape[1] * x.shape[2], x.is_cuda)
        if strip and as_built(norm):
            return in_strips(norm, x, strip, out=x, halo=0)
        x = normalise(norm, x)
        return x.clone() if strip else x  # the first block overwrites it

    def output(self, index: int, x: Tensor, following: Tensor | None = None) -> Tensor:
        """Normalise output ``index``; ``(B, H, W, C) -> (B, C, H, W)``.

        In strips, the output takes the memory of ``x`` if ``following``, which the next unit reads, is
        another map, and no hook may keep ``x``.
        """
        norm = getattr(self, f'norm{index}')
        strip = self.strip_of(index, x.shape[1] * x.shape[2], x.is_cuda)
        if not strip:
            return normalise(norm, x, channels_first=True)
        if not as_built(norm):  # a hook may keep what it reads
            return normalise(norm, x.clone(), channels_first=True)
        if following is None or not self._is_free(index, x, following):
            return in_strips(lambda x: norm(x).permute(0, 3, 1, 2), x, strip, out_axis=2)
        return channels_first_in_place(in_strips(norm, x, strip, out=x, halo=0), strip)

    def _is_free(self, index: int, x: Tensor, following: Tensor) -> bool:
        """Whether nobody reads the map after unit ``index`` again."""
        if any(map(is_hooked, self.units[index : index + 2])):
            return False
        is_last = index + 1 == len(self.units)
        place, other = (y.untyped_storage().data_ptr() for y in (x, following))
        return x.is_contiguous() and (is_last or place != other)

    def intermediates(
        self, image: Tensor, indices: int | Sequence[int], sizes: Sizes | None = None
    ) -> tuple[Tensor, ...]:
        """Like `forward`, but the maps after the given units, without norms; later units do not run.

        Args:
            indices: built units, counted from 0 or, if negative, from the end; in increasing order.
            sizes: as in `forward`.
        """
        network = copy.copy(self)  # shares the modules
        network.__dict__['_modules'] = dict(self._modules)
        network.cuda_graph = False  # graphs belong to a set of outputs
        network.keep_units(resolve_out_indices(indices, len(self.units), 'units'))
        return network.forward(image, sizes)

    def keep_units(self, indices: Sequence[int]) -> None:
        """Make the maps after these units the outputs, without norms, and drop the units after the last."""
        for index in self.out_indices:
            delattr(self, f'norm{index}')
        self.out_indices = tuple(indices)
        for index in indices:
            self.add_module(f'norm{index}', nn.Identity())
        count = indices[-1] + 1
        setattr(self, self.unit_name, self.units[:count])
        self.unit_channels = self.unit_channels[:count]
        self.unit_strides = self.unit_strides[:count]

    def freeze(self) -> None:
        """Freeze what ``frozen_stages`` says: the stem, units, and the output norms after them."""
        if self.frozen_stages < 0:
            return
        norms = (getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages)
        for module in (*self.stem, *self.units[: self.frozen_stages], *norms):
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> DynamicBackbone:
        """Set the training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        if mode:
            self.freeze()
        return self

    def get_layer_depth(self, name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning rate decay.

        Args:
            name: the parameter's name in the whole model.
            prefix: what comes before the backbone's own name, such as ``'backbone.'``.

        Returns:
            ``(depth, num_layers)``: the stem is 0, block ``i`` (with the downsampling before it) is
            ``i + 1``; output norms, and parameters outside the backbone, are ``num_layers - 1``.
        """
        num_layers = self.num_blocks + 2
        index = self.block_index(name[len(prefix) :]) if name.startswith(prefix) else None
        return (num_layers - 1 if index is None else index + 1), num_layers

    def block_index(self, name: str) -> int | None:
        """Index of the block that parameter ``name`` belongs to; -1 for the stem, None after the blocks."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """As in mmengine, but ``init_cfg=dict(type='Pretrained', ...)`` is strict: see `load_pretrained`."""
        given = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg or {}]
        pretrained = [cfg for cfg in given if cfg.get('type') in ('Pretrained', PretrainedInit)]
        if not pretrained or self.is_init:
            super().init_weights()
            return
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
        """The arch of ``weights``, by name and numbers; None if they belong to another kind of network."""
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
