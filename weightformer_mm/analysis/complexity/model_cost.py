"""The cost of a model at an image size."""

from __future__ import annotations

import copy
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ...utils.patches import replaced
from .counter import Counts, count_operations

_SEED = 0
_MASKS = 100  # boxes for which mmdet's StandardRoIHead predicts masks in mode='tensor'


@dataclass(frozen=True)
class ModuleCost:
    """What a module costs with all modules inside it, in one forward pass."""

    name: str  # as in ``named_modules()``; empty for the model itself
    kind: str  # name of its class
    parameters: int
    multiply_adds: int
    elements: int  # of all tensors that its operations allocated, including those freed again
    bytes: int

    @property
    def depth(self) -> int:
        return self.name.count('.') + 1 if self.name else 0


@dataclass(frozen=True)
class Complexity:
    """The cost of one forward pass on one image, in evaluation mode."""

    shape: tuple[int, int]  # height and width of the image in pixels
    input_shape: tuple[int, ...]  # what the model saw after padding, ``(B, C, H, W)``
    modules: tuple[
        ModuleCost, ...
    ]  # the model itself, then the others, as named_modules orders them
    operations: dict[str, int]  # multiply-adds of each counted operation
    free: dict[str, int]  # calls of each operation that counts as nothing by convention
    not_counted: dict[str, int]  # calls of each operation that may do arithmetic but has no formula
    notes: tuple[str, ...]  # what a reader must know to compare the numbers

    @property
    def total(self) -> ModuleCost:
        """The cost of the whole model."""
        return self.modules[0]


def measure(model: nn.Module, shape: tuple[int, int], in_channels: int = 3) -> Complexity:
    """Count what one image costs.

    A detector, segmentor or classifier of mmdet, mmseg or mmpretrain runs in ``mode='tensor'``, as in those
    libraries' own tools: with the proposals that NMS keeps, and up to the raw outputs. Any other module is
    called on a tensor ``(1, in_channels, H, W)``. Values are computed only where they decide what is computed
    next.

    Args:
        model: in any mode; it is not changed.
        shape: height and width of the image in pixels.
        in_channels: channels of the image.

    Raises:
        RuntimeError, ValueError: the model cannot run at that size.
    """
    image, samples = _make_input(model, shape, in_channels)
    notes = []
    if image.shape[-2:] != tuple(shape):
        notes.append('the data preprocessor pads {}x{} to {}x{}'.format(*shape, *image.shape[-2:]))
    try:
        counts, proposals = _run(model, image, samples, FakeTensorMode(allow_non_fake_inputs=True))
    except RuntimeError:
        # values are needed, or the model cannot run at all, which the next call shows
        counts, proposals = _run(model, image, samples, None)
        notes.append(
            f'the work depends on values: counted on one random image, random weights (seed {_SEED})'
        )
    operations: Counter[str] = Counter()
    for (_, operation), number in counts.multiply_adds.items():
        operations[operation] += number
    return Complexity(
        shape=shape,
        input_shape=tuple(image.shape),
        modules=tuple(_module_costs(model, counts)),
        operations=dict(operations.most_common()),
        free=dict(counts.free.most_common()),
        not_counted=dict(counts.not_counted.most_common()),
        notes=(*notes, *proposals, *_unused_parts(model, counts)),
    )


def _make_input(
    model: nn.Module, shape: tuple[int, int], in_channels: int
) -> tuple[Tensor, list[Any] | None]:
    """A random image and, for OpenMMLab's models, its data samples, both after the data preprocessor."""
    generator = torch.Generator().manual_seed(_SEED)
    size = (in_channels, *shape)
    if getattr(model, 'data_preprocessor', None) is None:
        return torch.randn(1, *size, generator=generator), None
    from mmengine.structures import BaseDataElement  # a backbone of another library needs none

    pixels = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    sizes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo: dict[str, Any] = dict.fromkeys(sizes, tuple(shape))
    metainfo.update(img_id=0, scale_factor=(1.0, 1.0), flip=False)
    batch = {'inputs': [pixels], 'data_samples': [BaseDataElement(metainfo=metainfo)]}
    with torch.no_grad():
        data = model.data_preprocessor(batch, training=False)
    image = data['inputs']
    image = torch.stack(image) if isinstance(image, (list, tuple)) else image
    return image.float(), data['data_samples']


def _run(
    model: nn.Module, image: Tensor, samples: list[Any] | None, fake: FakeTensorMode | None
) -> tuple[Counts, list[str]]:
    """Counts, and notes on proposals; runs on tensors without values if ``fake`` is given."""
    # a copy: modules may keep tensors without values from this pass; Swin's own train() returns None
    model, samples = nn.Module.train(copy.deepcopy(model), False), copy.deepcopy(samples)
    notes = _note_proposals(model)
    for module in model.modules():
        if hasattr(module, 'max_tokens'):  # strips would copy rows, and cost no less
            module.max_tokens = sys.maxsize
    with torch.random.fork_rng(devices=[]), fake or nullcontext():
        torch.manual_seed(_SEED)
        image = fake.from_tensor(image) if fake else image
        with count_operations(model) as counts:
            _forward(model, image, samples)
    return counts, notes


def _forward(model: nn.Module, image: Tensor, samples: list[Any] | None) -> None:
    """Run a model up to its raw outputs."""
    head = getattr(model, 'decode_head', None)
    if samples is None:
        model(image)
    # mmseg's MaskFormer and Mask2Former cannot run in mode='tensor'
    elif head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters:
        model.encode_decode(image, [sample.metainfo for sample in samples])
    else:
        model(image, samples, mode='tensor')


def _note_proposals(model: nn.Module) -> list[str]:
    """Notes of a two-stage detector's forward pass: its number of proposals decides what its heads cost."""
    notes: list[str] = []
    head = getattr(model, 'roi_head', None)
    if head is None:
        return notes
    forward = head.forward

    def noted(features: Any, proposals: Any, *args: Any, **kwargs: Any) -> Any:
        found = sum(len(result.bboxes) for result in proposals)
        most = ((model.test_cfg or {}).get('rpn') or {}).get('max_per_img')
        limit = '' if most is None else f' (test_cfg.rpn.max_per_img={most})'
        notes.append(f'{found} proposals after NMS{limit}')
        if not isinstance(getattr(head, 'mask_head', None), nn.ModuleList):
            return forward(features, proposals, *args, **kwargs)
        # A cascade would predict a mask for every proposal. Here it does so for the first boxes only, as
        # mmdet's other heads do; all published numbers were counted that way.
        boxes = torch.cat([result.bboxes for result in proposals])[:_MASKS]
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        with replaced(head, mask_head=None):
            results = forward(features, proposals, *args, **kwargs)
        masks = [head._mask_forward(stage, features, rois) for stage in range(head.num_stages)]
        return (*results, masks)

    head.forward = noted
    return notes


def _module_costs(model: nn.Module, counts: Counts) -> Iterator[ModuleCost]:
    """The cost of each module, with all modules inside it."""
    multiply_adds = [(name, number) for (name, _), number in counts.multiply_adds.items()]
    sizes = multiply_adds, counts.elements.items(), counts.bytes.items()
    for name, module in model.named_modules():
        inside = f'{name}.' if name else ''
        sums = (sum(n for inner, n in size if f'{inner}.'.startswith(inside)) for size in sizes)
        yield ModuleCost(name, type(module).__name__, _parameters(module), *sums)


def _unused_parts(model: nn.Module, counts: Counts) -> Iterator[str]:
    """Parts with parameters that inference does not use, such as auxiliary heads."""
    for name, child in model.named_children():
        parameters = _parameters(child)
        if parameters and not any(used.startswith(f'{name}.') for used in counts.used):
            yield f'{name} ({parameters:,} parameters) has no part in inference'


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
