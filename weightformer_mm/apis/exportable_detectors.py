"""What an exported detector computes: as many boxes, scores, labels and masks for each image of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .exportable import Exportable, defined_by, divisor_of, state

NONE = -1.0  # score of what is no candidate
_PAIRED = 0.98  # share of boxes; others may be where two are equal to the last digit


class Detector(Exportable):
    """Boxes ``(B, N, 4)`` as ``x1, y1, x2, y2`` in pixels of the image, scores and labels ``(B, N)``.

    N is ``max_per_img`` of the config; the best come first. Places that are left have score 0 and label -1.
    """

    def __init__(self, model: Any, with_preprocessing: bool):
        super().__init__(model, with_preprocessing)
        if not with_preprocessing:  # necks may need it
            self.multiple = divisor_of(model.data_preprocessor)

    def names(self, count: int) -> list[str]:
        return ['boxes', 'scores', 'labels', 'masks'][:count]

    def sides(self, output: Tensor) -> Sequence[int]:
        return ()

    def difference(self, image: Tensor, outputs: Sequence[Tensor]) -> float:
        """Largest difference of a box (in units of the larger side), score or mask, from its partner's.

        One box in fifty may have none: where overlaps or scores are equal to the last digit, either is right.
        """
        expected = self(image)
        if [x.shape for x in outputs] != [x.shape for x in expected]:
            return math.inf
        side = max(self.size(image))
        pairs = zip(zip(*outputs), zip(*expected))  # of each image
        return max(max(_apart(*pair, side), _apart(*pair[::-1], side)) for pair in pairs)

    def finished(self, boxes: Tensor, labels: Tensor, scores: Tensor, index: Tensor) -> Any:
        """Boxes, scores and labels of the candidates that `suppress` leaves."""
        found = scores >= 0
        boxes = chosen(boxes, index) * found[..., None].to(boxes.dtype)
        return boxes, scores.clamp(min=0), labels.gather(1, index).masked_fill(~found, -1)


class SingleStage(Detector):
    """RetinaNet, RTMDet, FCOS and others whose head predicts as mmdet's ``BaseDenseHead``."""

    @classmethod
    def fits(cls, model: Any, backbone: bool) -> bool:
        if backbone or not defined_by(model, 'predict', 'SingleStageDetector'):
            return False
        steps = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
        return all(defined_by(model.bbox_head, step, 'BaseDenseHead') for step in steps)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        head, maps = self.model.bbox_head, self.model.extract_feat(self.prepared(image))
        cfg = head.test_cfg
        boxes, scores, labels, *_ = find_candidates(head, head(maps), cfg, self.size(image))
        best = suppress(boxes, scores, labels, cfg)
        return self.finished(boxes, labels, *best)


class TwoStage(Detector):
    """Faster and Mask R-CNN; ``masks (B, N, h, w)`` are probabilities within the boxes."""

    @classmethod
    def fits(cls, model: Any, backbone: bool) -> bool:
        if backbone or not defined_by(model, 'predict', 'TwoStageDetector'):
            return False
        roi_head = model.roi_head
        steps = [
            (model.rpn_head, '_predict_by_feat_single', 'RPNHead'),
            (roi_head, 'predict', 'BaseRoIHead'),
            (roi_head, 'predict_bbox', 'StandardRoIHead'),
            (roi_head, '_bbox_forward', 'StandardRoIHead'),
            (roi_head.bbox_head, '_predict_by_feat_single', 'BBoxHead'),
            (roi_head.bbox_roi_extractor, 'forward', 'SingleRoIExtractor'),
        ]
        if roi_head.with_mask:
            steps += [
                (roi_head, '_mask_forward', 'StandardRoIHead'),
                (roi_head.mask_head, '_predict_by_feat_single', 'FCNMaskHead'),
                (roi_head.mask_roi_extractor, 'forward', 'SingleRoIExtractor'),
            ]
        return all(defined_by(*step) for step in steps) and not roi_head.with_shared_head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.extract_feat(self.prepared(image))
        cfg = self.model.rpn_head.test_cfg
        head, size = self.model.rpn_head, self.size(image)
        boxes, scores, _, levels, *_ = find_candidates(head, head(maps), cfg, size)
        scores, index = suppress(boxes, scores, levels, cfg)
        found = self._classified(maps, chosen(boxes, index), scores, size)
        return (*found, self._masks(maps, *found)) if self.model.roi_head.with_mask else found

    def _classified(
        self, maps: Sequence[Tensor], proposals: Tensor, objectness: Tensor, size: tuple[int, int]
    ) -> Any:
        roi_head = self.model.roi_head
        head, cfg, (batch, count) = roi_head.bbox_head, roi_head.test_cfg, proposals.shape[:2]
        logits, deltas = head(_features(roi_head.bbox_roi_extractor, maps, proposals))
        scores = logits.softmax(-1)[:, :-1].reshape(batch, count, head.num_classes)
        boxes = head.bbox_coder.decode(proposals, deltas.reshape(batch, count, deltas.shape[1]))
        boxes = boxes.reshape(batch, count, boxes.shape[2] // 4, 4).expand(
            -1, -1, head.num_classes, -1
        )
        boxes = _clipped(boxes, size, head.bbox_coder)
        valid = (scores > cfg.score_thr) & (objectness >= 0)[..., None]
        labels = torch.arange(head.num_classes, device=scores.device).expand_as(scores)
        boxes, labels = boxes.flatten(1, 2), labels.flatten(1)
        scores = scores.masked_fill(~valid, NONE).flatten(1)
        return self.finished(boxes, labels, *suppress(boxes, scores, labels, cfg))

    def _masks(
        self, maps: Sequence[Tensor], boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> Tensor:
        roi_head = self.model.roi_head
        masks = roi_head.mask_head(_features(roi_head.mask_roi_extractor, maps, boxes)).sigmoid()
        masks = masks.unflatten(0, boxes.shape[:2])  # (B, N, classes or 1, h, w)
        if roi_head.mask_head.class_agnostic:
            return masks[:, :, 0]
        index = labels.clamp(min=0)[..., None, None, None]
        return masks.gather(2, index.expand(-1, -1, 1, *masks.shape[3:]))[:, :, 0]


def find_candidates(
    head: Any,
    outputs: Sequence[Sequence[Tensor]],
    cfg: Any,
    size: tuple[int, int],
    *others: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """The ``nms_pre`` best boxes of each level.

    Args:
        head: of a single-stage detector, or of region proposals.
        outputs: of the head for each level: logits, boxes, and factors of the scores.
        cfg: of the head, for testing.
        size: of the image, ``(height, width)``.
        others: for each level, what each place has beside, ``(B, places, C)``.

    Returns:
        Boxes ``(B, n, 4)``, scores, labels and levels ``(B, n)``, priors ``(B, n, 2 or 4)``, and the others
        ``(B, n, C)``.
    """
    sizes = [scores.shape[-2:] for scores in outputs[0]]
    options: Any = dict(dtype=outputs[0][0].dtype, device=outputs[0][0].device)
    options.update(dict(with_stride=True) if others else {})
    priors = head.prior_generator.grid_priors(sizes, **options)
    parts = []
    for level, (prior, *values) in enumerate(zip(priors, *outputs)):
        of_places = [prior.expand(values[0].shape[0], -1, -1), *(other[level] for other in others)]
        best, labels, deltas, prior, *rest = _of_level(head, cfg, of_places, *values)
        boxes = head.bbox_coder.decode(prior[..., :2] if others else prior, deltas)
        parts.append((boxes, best, labels, torch.full_like(labels, level), prior, *rest))
    boxes, scores, labels, levels, *rest = (torch.cat(values, dim=1) for values in zip(*parts))
    boxes = _clipped(boxes, size, head.bbox_coder)
    least = cfg.get('min_bbox_size', -1)
    if least >= 0:
        is_small = (boxes[..., 2:] - boxes[..., :2] <= least).any(-1)
        scores = scores.masked_fill(is_small, NONE)
    return boxes, scores, labels, levels, *rest


def _of_level(
    head: Any,
    cfg: Any,
    of_places: Sequence[Tensor],
    logits: Tensor,
    deltas: Tensor,
    *factors: Tensor,
) -> tuple[Tensor, ...]:
    """Scores, labels, deltas and what else places have of the best pairs of a place and a class.

    They are always ``nms_pre``.
    """
    batch, count = logits.shape[0], cfg.nms_pre
    scores = logits.permute(0, 2, 3, 1).reshape(batch, -1, head.cls_out_channels)
    deltas = deltas.permute(0, 2, 3, 1).reshape(batch, -1, 4)
    scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
    classes = head.cls_out_channels - int(not head.use_sigmoid_cls)
    # so many that no number of them depends on the size
    more = (0, 0, 0, -(-count // classes))
    best, index = F.pad(scores, more, value=NONE).flatten(1).topk(count)
    anchor, labels = index // classes, index % classes
    best = best.masked_fill(best <= cfg.get('score_thr', NONE), NONE)
    for factor in factors:
        factor = factor.permute(0, 2, 3, 1).reshape(batch, -1, 1).sigmoid()
        best = best * F.pad(factor, more, value=1.0)[..., 0].gather(1, anchor)
    rest = (chosen(F.pad(values, more), anchor) for values in (deltas, *of_places))
    return best, labels, *rest


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, cfg: Any) -> tuple[Tensor, Tensor]:
    """Scores and indices ``(B, N)`` of the best boxes of an image that overlap no better one of their group.

    Args:
        boxes: ``(B, n, 4)``.
        scores: ``(B, n)``; those of `NONE` are left out.
        groups: ``(B, n)``, numbers from 0.
        cfg: of the head, with ``nms`` and ``max_per_img``.
    """
    from torchvision.ops import nms

    groups = groups * int(not cfg.nms.get('class_agnostic', False))
    image = torch.arange(scores.shape[0], device=scores.device)[:, None]
    # boxes of different images and groups are moved apart
    offset = (image * (groups.max() + 1) + groups).to(boxes.dtype) * (boxes.max() + 1)
    apart, flat = (boxes + offset[..., None]).flatten(0, 1), scores.flatten()
    index = (flat >= 0).nonzero().squeeze(1)
    shaped = apart[index].reshape(-1, 4)  # some runtimes must know the last size
    kept = index[nms(shaped, flat[index], cfg.nms.iou_threshold)]
    left = torch.full_like(flat, NONE).scatter(0, kept, flat[kept]).reshape(scores.shape)
    best, index = F.pad(left, (0, cfg.max_per_img), value=NONE).topk(cfg.max_per_img)
    return best, index % scores.shape[1]


def _features(extractor: Any, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """What a head reads of boxes ``(B, n, 4)``: ``(B * n, C, h, w)``, each from the level of its size."""
    from torchvision.ops import roi_align

    layers = extractor.roi_layers
    image = torch.arange(boxes.shape[0], device=boxes.device)[:, None, None].to(boxes.dtype)
    rois = torch.cat([image.expand_as(boxes[..., :1]), boxes], dim=-1).flatten(0, 1)
    levels = extractor.map_roi_levels(rois, len(layers))
    places = [(levels == level).nonzero().squeeze(1) for level in range(len(layers))]
    parts = [
        roi_align(
            *(x, rois[place], layer.output_size, layer.spatial_scale),
            *(max(layer.sampling_ratio, 0), layer.aligned),
        )
        for x, place, layer in zip(maps, places, layers)
    ]
    features = torch.cat(parts)[torch.cat(places).argsort()]
    state(features.shape[0] == rois.shape[0])
    return features


def chosen(values: Tensor, index: Tensor) -> Tensor:
    """Rows of each image: ``(B, n, C), (B, k) -> (B, k, C)``."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def _clipped(boxes: Tensor, size: tuple[int, int], coder: Any) -> Tensor:
    """Boxes ``(..., 4)`` within an image, if their coder wants that."""
    if not getattr(coder, 'clip_border', True):
        return boxes
    one = boxes.new_ones(1)  # what follows from the size stays a tensor
    height, width = one * size[0], one * size[1]
    return boxes.clamp(min=0).minimum(torch.cat([width, height, width, height]))


def _apart(ours: Sequence[Tensor], theirs: Sequence[Tensor], side: int) -> float:
    """How far the boxes of one image are from the nearest of the others, with their scores and masks."""
    (boxes, scores, labels, *masks), (others, *rest) = ours, theirs
    there, known = scores > 0, rest[0] > 0
    if not there.any() or not known.any():
        return 0.0 if not there.any() else math.inf
    far = (boxes[there, None] - others[None, known]).abs().amax(-1) / side
    far = far.maximum((scores[there, None] - rest[0][None, known]).abs())
    far = far.masked_fill(labels[there, None] != rest[1][None, known], math.inf)
    far, partner = far.min(1)
    for mask, other in zip(masks, rest[2:]):
        far = far.maximum((mask[there] - other[known][partner]).abs().amax((1, 2)))
    return float(far.sort().values[int(_PAIRED * (len(far) - 1))])
