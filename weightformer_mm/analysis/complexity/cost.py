"""The cost of a model at an image size."""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ...utils.patches import replaced
from .counter import Counts, count_operations

_SEED = 0
_MASKS = 100  # of how many boxes mmdet's StandardRoIHead predicts masks in mode='tensor'
SCRATCH = 'one random image, random weights'


@dataclass(frozen=True)
class ModuleCost:
    """What a module and all modules inside it cost.

    Attributes:
        name: as in ``named_modules()``; empty for the model itself.
        kind: name of its class.
        parameters: how many numbers it learns or has learned, frozen ones included.
        multiply_adds: in one forward pass.
        elements: of all tensors that its operations allocated, also those freed again.
        bytes: the same in bytes.
    """

    name: str
    kind: str
    parameters: int
    multiply_adds: int
    elements: int
    bytes: int

    @property
    def depth(self) -> int:
        return self.name.count('.') + 1 if self.name else 0


@dataclass(frozen=True)
class Complexity:
    """The cost of one forward pass on one image, in evaluation mode.

    Attributes:
        shape: height and width of the image in pixels.
        input_shape: what the model saw after padding, ``(B, C, H, W)``.
        modules: the model itself, then its modules in the order of ``named_modules()``.
        operations: multiply-adds of each counted operation.
        free: calls of each operation that counts as nothing by convention.
        not_counted: calls of each operation that may do arithmetic and was not counted.
        counted_inside: of those, the ones in which other operations were seen and counted.
        notes: what a reader must know to compare the numbers.
    """

    shape: tuple[int, int]
    input_shape: tuple[int, ...]
    modules: tuple[ModuleCost, ...]
    operations: dict[str, int]
    free: dict[str, int]
    not_counted: dict[str, int]
    counted_inside: frozenset[str]
    notes: tuple[str, ...]

    @property
    def total(self) -> ModuleCost:
        """The cost of the whole model."""
        return self.modules[0]


def measure(model: nn.Module, shape: tuple[int, int], in_channels: int = 3) -> Complexity:
    """Count what one image costs.

    A detector, segmentor or classifier of mmdet, mmseg or mmpretrain runs as in their own tools, in
    ``mode='tensor'``: with the proposals that are left after NMS and without drawing up results. Any other
    module is called on a tensor ``(1, in_channels, H, W)``. Where nothing depends on values, none are
    computed, so that an image may be as large as one likes.

    Args:
        model: in any mode; it is left as it was.
        shape: height and width of the image in pixels.
        in_channels: channels of the image.

    Raises:
        RuntimeError, ValueError: the model cannot run at that size. A `RuntimeError` has the attribute
            ``module``, the name of the innermost module that failed.
    """
    call = _Call(model, shape, in_channels)
    try:
        # a copy, since what a module keeps from one forward to the next must not have no values
        counts, call_notes = call.run(copy.deepcopy(model), values=False)
        notes = []
    except RuntimeError:  # values are needed, or there is a true error, which comes again
        counts, call_notes = call.run(copy.deepcopy(model), values=True)
        notes = [f'the work depends on values: counted on {SCRATCH} (seed {_SEED})']
    return Complexity(
        shape=shape,
        input_shape=call.input_shape,
        modules=tuple(_roll_up(model, counts)),
        operations=_by_operation(counts),
        free=dict(counts.free.most_common()),
        not_counted=dict(counts.not_counted.most_common()),
        counted_inside=frozenset(counts.counted_inside),
        notes=(*call.padding_note(), *notes, *call_notes, *_not_run(model, counts)),
    )


class _Call:
    """One image, as the model takes it."""

    def __init__(self, model: nn.Module, shape: tuple[int, int], in_channels: int):
        self.shape = shape
        self.samples: list[Any] | None = None
        generator = torch.Generator().manual_seed(_SEED)
        size = (in_channels, *shape)
        if getattr(model, 'data_preprocessor', None) is None:
            self.image = torch.randn(1, *size, generator=generator)
        else:
            pixels = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
            self.image, self.samples = _preprocess(model, pixels)
        self.input_shape = tuple(self.image.shape)

    def run(self, model: nn.Module, values: bool) -> tuple[Counts, list[str]]:
        model.eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            if values:
                return self._count(model, self.image)
            with FakeTensorMode(allow_non_fake_inputs=True) as fake:
                return self._count(model, fake.from_tensor(self.image))

    def _count(self, model: nn.Module, image: Tensor) -> tuple[Counts, list[str]]:
        with _proposals(model) as notes, count_operations(model) as counts:
            try:
                if self.samples is None:
                    model(image)
                else:
                    _forward(model, image, copy.deepcopy(self.samples))
            except RuntimeError as error:
                error.module = counts.failed_in
                raise
        return counts, notes

    def padding_note(self) -> Iterator[str]:
        if self.input_shape[-2:] != self.shape:
            padded = 'x'.join(map(str, self.input_shape[-2:]))
            yield f'the data preprocessor pads {self.shape[0]}x{self.shape[1]} to {padded}'


def _preprocess(model: nn.Module, pixels: Tensor) -> tuple[Tensor, list[Any]]:
    """What the model's data preprocessor makes of an image, with the metadata that heads may ask for."""
    from mmengine.structures import BaseDataElement

    size = tuple(pixels.shape[-2:])
    metainfo = dict(
        img_id=0,
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
        flip=False,
    )
    batch = {'inputs': [pixels], 'data_samples': [BaseDataElement(metainfo=metainfo)]}
    with torch.no_grad():
        data = model.data_preprocessor(batch, training=False)
    image = data['inputs']
    image = torch.stack(image) if isinstance(image, (list, tuple)) else image
    return image.float(), data['data_samples']


def _forward(model: nn.Module, image: Tensor, samples: list[Any]) -> None:
    """Run a model of mmdet, mmseg or mmpretrain up to its raw outputs."""
    head = getattr(model, 'decode_head', None)
    # mmseg's MaskFormer and Mask2Former cannot run in mode='tensor'
    if head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters:
        model.encode_decode(image, [sample.metainfo for sample in samples])
    else:
        model(image, samples, mode='tensor')


@contextmanager
def _proposals(model: nn.Module) -> Iterator[list[str]]:
    """Note how many proposals a two-stage detector has; they decide what its heads cost."""
    notes: list[str] = []
    head = getattr(model, 'roi_head', None)
    if head is None:
        yield notes
        return
    forward = head.forward

    def noted(features: Any, proposals: Any, *args: Any, **kwargs: Any) -> Any:
        found = sum(len(result.bboxes) for result in proposals)
        most = ((model.test_cfg or {}).get('rpn') or {}).get('max_per_img')
        limit = '' if most is None else f' (test_cfg.rpn.max_per_img={most})'
        notes.append(f'{found} proposals after NMS{limit}')
        if isinstance(getattr(head, 'mask_head', None), nn.ModuleList):
            return _cascade(head, forward, features, proposals, *args, **kwargs)
        return forward(features, proposals, *args, **kwargs)

    with replaced(head, forward=noted):
        yield notes


def _cascade(
    head: Any, forward: Any, features: Any, proposals: Any, *args: Any, **kwargs: Any
) -> Any:
    """A cascade with masks of the first boxes alone, as mmdet's other heads and all published numbers.

    mmdet's ``CascadeRoIHead`` would give each proposal a mask in each stage, ten times as many as there are
    objects to find.
    """
    boxes = torch.cat([result.bboxes for result in proposals])[:_MASKS]
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    with replaced(head, mask_head=None):
        results = forward(features, proposals, *args, **kwargs)
    masks = [head._mask_forward(stage, features, rois) for stage in range(head.num_stages)]
    return (*results, masks)


def _roll_up(model: nn.Module, counts: Counts) -> Iterator[ModuleCost]:
    products, elements, sizes = Counter(), Counter(), Counter()
    per_module = Counter()
    for (module, _), number in counts.multiply_adds.items():
        per_module[module] += number
    for own, total in ((per_module, products), (counts.elements, elements), (counts.bytes, sizes)):
        for name, number in own.items():
            for ancestor in _with_ancestors(name):
                total[ancestor] += number
    for name, module in model.named_modules():
        parameters = sum(parameter.numel() for parameter in module.parameters())
        kind = type(module).__name__
        yield ModuleCost(name, kind, parameters, products[name], elements[name], sizes[name])


def _with_ancestors(name: str) -> Iterator[str]:
    yield ''
    parts = name.split('.') if name else []
    for end in range(1, len(parts) + 1):
        yield '.'.join(parts[:end])


def _by_operation(counts: Counts) -> dict[str, int]:
    total: Counter[str] = Counter()
    for (_, operation), number in counts.multiply_adds.items():
        total[operation] += number
    return dict(total.most_common())


def _not_run(model: nn.Module, counts: Counts) -> Iterator[str]:
    """Parts with parameters that a forward pass for inference does not use, such as auxiliary heads."""
    for name, child in model.named_children():
        parameters = sum(parameter.numel() for parameter in child.parameters())
        if parameters and not any(used.startswith(f'{name}.') for used in counts.used):
            yield f'{name} ({parameters:,} parameters) has no part in inference'
