"""What an exported RTMDet-Ins computes: it predicts the weights of a small network for each object's mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .exportable import defined_by
from .exportable_detectors import SingleStage, chosen, find_candidates, suppress


class InstanceKernels(SingleStage):
    """RTMDet-Ins; ``masks (B, N, H, W)`` are probabilities in the whole image."""

    @classmethod
    def fits(cls, model: Any, backbone: bool) -> bool:
        if backbone or not defined_by(model, 'predict', 'SingleStageDetector'):
            return False
        steps = ('predict_by_feat', '_predict_by_feat_single', '_bbox_mask_post_process')
        steps = (*steps, '_mask_predict_by_feat_single', 'parse_dynamic_params')
        return all(defined_by(model.bbox_head, step, 'RTMDetInsHead') for step in steps)

    def sides(self, output: Tensor) -> Sequence[int]:
        return range(output.ndim)[-2:] if output.ndim > 3 else ()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        head, (height, width) = self.model.bbox_head, self.size(image)
        *outputs, kernels, features = head(self.model.extract_feat(self.prepared(image)))
        cfg = head.test_cfg
        kernels = [x.permute(0, 2, 3, 1).flatten(1, 2) for x in kernels]
        candidates = find_candidates(head, outputs, cfg, (height, width), kernels)
        boxes, scores, labels, _, priors, kernels = candidates
        scores, index = suppress(boxes, scores, labels, cfg)
        logits = self._logits(features, chosen(kernels, index), chosen(priors, index))
        logits = F.interpolate(
            logits, scale_factor=head.prior_generator.strides[0][0], mode='bilinear'
        )
        masks = logits.sigmoid()[:, :, :height, :width]
        return *self.finished(boxes, labels, scores, index), masks

    def _logits(self, features: Tensor, kernels: Tensor, priors: Tensor) -> Tensor:
        """Run the network of each object on the features, and the way from its centre to each pixel.

        Args:
            features: ``(B, F, h, w)``.
            kernels: weights and biases of three or so 1x1 convolutions, ``(B, N, P)``.
            priors: centre, and stride of the level, of each object: ``(B, N, 4)`` in pixels of the image.

        Returns:
            ``(B, N, h, w)``.
        """
        head, size = self.model.bbox_head, features.shape[-2:]
        points = head.prior_generator.single_level_grid_priors(size, 0, device=features.device)
        strides = priors[:, :, None, 2:].clamp(min=1)
        way = (priors[:, :, None, :2] - points) / (8 * strides)  # (B, N, h * w, 2)
        x = features.flatten(2)[:, None].expand(-1, kernels.shape[1], -1, -1)
        x = torch.cat([way.transpose(2, 3), x], dim=2)  # (B, N, 2 + F, h * w)
        count, parts = (
            len(head.weight_nums),
            kernels.split(head.weight_nums + head.bias_nums, dim=2),
        )
        for number, (weight, bias) in enumerate(zip(parts[:count], parts[count:])):
            weight = weight.unflatten(2, (bias.shape[2], -1))  # (B, N, out, in)
            x = weight @ (x.relu() if number else x) + bias[..., None]
        return x[:, :, 0].unflatten(2, tuple(size))
