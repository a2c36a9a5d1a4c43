from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor


@METRICS.register_module()
class CueAccuracy(BaseMetric):
    """Share of the found object pixels whose cue is right.

    Classes named ``<shape>_<cue>`` have both; others, such as the background, are ignored. A pixel is found
    if truth and prediction have the same shape; its cue is right if they have the same class. Reports
    ``cue_accuracy`` in per cent of the found pixels (NaN if there are none), and ``found`` in per cent of the
    object pixels.
    """

    default_prefix = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch: ``pred_sem_seg`` and ``gt_sem_seg``, ``(1, H, W)`` each."""
        for sample in data_samples:
            truth, prediction = (
                sample[name]['data'].squeeze(0).cpu() for name in ('gt_sem_seg', 'pred_sem_seg')
            )
            self.results.append(count_cues(truth, prediction, self.dataset_meta['classes']))

    def compute_metrics(self, results: list[tuple[int, int, int]]) -> dict[str, float]:
        right, found, objects = np.sum(results, axis=0).tolist()
        return {
            'cue_accuracy': 100 * right / found if found else float('nan'),
            'found': 100 * found / objects if objects else float('nan'),
        }


def count_cues(truth: Tensor, prediction: Tensor, classes: Sequence[str]) -> tuple[int, int, int]:
    """Numbers of object pixels with the right class, with the right shape, and in total, from label maps."""
    names = [name.rpartition('_')[0] for name in classes]  # of the shapes; empty without a cue
    numbers = [names.index(name) if name else -1 for name in names]
    shapes = torch.tensor(numbers + [-1] * (256 - len(classes)))  # 255 in the truth is "ignore"
    truth, prediction = truth.long(), prediction.long()
    objects = shapes[truth] >= 0
    found = objects & (shapes[truth] == shapes[prediction])
    right = found & (truth == prediction)
    return int(right.sum()), int(found.sum()), int(objects.sum())
