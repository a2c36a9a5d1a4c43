"""Is there anything to learn from? Without it a training ends as if all were well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.structures import BaseDataElement
from torch import nn

from ...checkpoints.match import unwrapped
from ...config.read import type_name
from ...errors import ArgumentError, UserError
from .images import is_unlabelled, loader
from .labels import LabelRange
from .wrappers import innermost

NO_OBJECT = 'no object is left to learn from'
NO_PIXEL = 'no labelled pixel is left to learn from'
ALL_IGNORED = (
    'every pixel of every label image is ignored: 255 counts nowhere, nor 0 with reduce_zero_label; write '
    'the numbers of the classes in their place'
)


def check_learnable(dataset: Any) -> None:
    """Refuse the built data set of a training if none inside it has an object or a labelled pixel.

    It looks no further than the first; most often that is in the first image.

    Raises:
        UserError: there is none, or a label image that had to be read cannot be.
    """
    trained = [inner for inner in innermost(dataset) if getattr(inner, 'test_mode', True) is False]
    if trained and not any(map(teaches, trained)):
        what = f'{NO_PIXEL}: {ALL_IGNORED}' if LabelRange.of(trained[0]) else NO_OBJECT
        name = getattr(trained[0], 'ann_file', '') or getattr(trained[0], 'data_root', '')
        raise UserError(
            f'data set {type(trained[0]).__name__}, {name}: {what}; tools/check_dataset.py says why'
        )


def check_annotated(samples: Any, model: nn.Module) -> None:
    """Refuse the samples of a training batch that lack what the heads of the model learn from.

    Raises:
        ArgumentError: the pipeline loads no annotations, or not those.
    """
    if not isinstance(samples, list):  # of several branches, some without labels
        return
    model = unwrapped(model)
    masks = getattr(getattr(model, 'roi_head', None), 'with_mask', False)
    for sample in samples:
        objects, lacks = getattr(sample, 'gt_instances', None), ''
        if objects is None:
            labelled = not hasattr(model, 'decode_head') or 'gt_sem_seg' in sample
            lacks = '' if labelled else 'label images: it needs LoadAnnotations'
        elif not {'bboxes', 'labels'} <= {*objects.keys()}:
            lacks = 'objects: it needs LoadAnnotations(with_bbox=True)'
        elif masks and 'masks' not in objects:
            lacks = 'masks, and the model has a mask head: it needs LoadAnnotations(with_mask=True)'
        if lacks:
            raise ArgumentError(f'the pipeline of its data set loads no {lacks}')


def check_comparable(samples: Any, evaluators: Sequence[Any]) -> None:
    """Refuse the samples of an evaluation that lack what its evaluators, given by configs, compare with.

    Raises:
        ArgumentError: the pipeline loads no annotations, or packs none.
    """
    for evaluator in evaluators:
        kind, advice = type_name(evaluator), ''
        if kind == 'IoUMetric':
            key, advice = 'gt_sem_seg', 'it needs LoadAnnotations'
        elif kind == 'CocoMetric' and not evaluator.get('ann_file'):
            key, advice = (
                'instances',
                "PackDetInputs needs 'instances' in its meta_keys, or the evaluator an ann_file",
            )
        if not advice or evaluator.get('format_only') or not isinstance(samples, list):
            continue
        if any(isinstance(one, BaseDataElement) and key not in one for one in samples):
            raise ArgumentError(
                f'the pipeline of its data set gives no annotations to {kind}: {advice}'
            )


def teaches(dataset: Any) -> bool:
    """Whether a data set that wraps no other has something to learn from, as far as one can know."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    if LabelRange.of(dataset) and loader(dataset, 'with_seg'):
        return any_labelled(dataset, infos)
    if is_unlabelled(dataset):
        return True
    return any(
        'instances' not in info
        or not all(i.get('ignore_flag') for i in info['instances'])
        or info.get('segments_info')  # stuff
        for info in infos
    )


def any_labelled(dataset: Any, items: Iterable[dict]) -> bool:
    """Whether one of the ``items`` of a data set of mmseg has a pixel of a class."""
    load, allowed = loader(dataset, 'with_seg'), LabelRange.of(dataset)
    items = (item for item in items if item.get('seg_map_path') is not None)
    return any(allowed.present(load({**item, 'seg_fields': []})['gt_seg_map']) for item in items)
