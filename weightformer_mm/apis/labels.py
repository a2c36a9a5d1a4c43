"""Let a segmentor keep the labels of an image, and no logits: one number per pixel, not one per class too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mmengine.structures import PixelData
from torch import Tensor, nn

from ..checkpoints.match import unwrapped

_AT_ONCE = 3  # classes whose logits are enlarged at a time; the remainder adds at most two


def keep_labels(model: nn.Module) -> None:
    """Let ``model`` predict samples without ``seg_logits``, if it is a segmentor in ``whole`` mode.

    mmseg enlarges the logits of all classes to the size of the image, twice. Here a few classes are enlarged
    at a time, by the same functions of mmseg, so the labels are bit for bit the same. Heads that predict in
    a way of their own, such as Mask2Former's, stay as they are.
    """
    segmentor: Any = unwrapped(model)
    if not hasattr(segmentor, 'whole_inference') or segmentor.test_cfg.get('mode') != 'whole':
        return
    predicts = getattr(last_head(segmentor), 'predict_by_feat', None)
    if getattr(predicts, '__qualname__', '') == 'BaseDecodeHead.predict_by_feat':
        segmentor.predict = partial(_predict, segmentor)


def last_head(segmentor: Any) -> Any:
    """The head whose logits are the segmentor's."""
    head = segmentor.decode_head  # a cascade has several
    return head[-1] if isinstance(head, nn.ModuleList) else head


def _predict(model: Any, images: Tensor, samples: Sequence[Any]) -> Sequence[Any]:
    """As ``model.predict``, a few classes at a time; every step after the head treats each class alone."""
    head, metas = last_head(model), [sample.metainfo for sample in samples]
    enlarge = head.predict_by_feat
    head.predict_by_feat = lambda logits, metas: logits
    try:
        logits = model.inference(images, metas)
    finally:
        del head.predict_by_feat
    best: list[Tensor] = []
    labels: list[Tensor] = []
    first = 0
    for part in logits.tensor_split(max(1, logits.shape[1] // _AT_ONCE), dim=1):
        model.postprocess_result(enlarge(part, metas), samples)
        for index, sample in enumerate(samples):
            found, values = sample.pred_sem_seg.data, sample.seg_logits.data.amax(0, keepdim=True)
            del sample.seg_logits, sample.pred_sem_seg
            if first:
                is_better = values > best[index]
                best[index][is_better] = values[is_better]
                labels[index][is_better] = found[is_better] + first
            else:
                best.append(values)
                labels.append(found)
        first += part.shape[1]
    for sample, found in zip(samples, labels):
        sample.pred_sem_seg = PixelData(data=found)
    return samples
