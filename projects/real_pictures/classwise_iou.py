"""mmseg's mIoU, with the IoU of each class."""

from __future__ import annotations

from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric


@METRICS.register_module()
class ClasswiseIoU(IoUMetric):
    """mmseg's ``IoUMetric``; ``IoU.<class>``, in per cent, is a metric, too, where mmseg only logs it."""

    def compute_metrics(self, results: list) -> dict[str, float]:
        intersection, union, *_ = (sum(areas) for areas in zip(*results))
        values = (100 * intersection / union).tolist()
        classes = {f'IoU.{name}': v for name, v in zip(self.dataset_meta['classes'], values)}
        return {**super().compute_metrics(results), **classes}
