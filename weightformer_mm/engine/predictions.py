"""Predicted classes as a JSON file; mmengine's own ``DumpResults`` would pickle them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class DumpClasses(BaseMetric):
    """Write the predicted class of every image; gives no metric.

    Args:
        path: the file, a list of ``{"file_name", "label", "class", "score"}``: the image, the number of its
            class from 0 on, the name of that class where the data set has names, and its probability.
        options: arguments of mmengine's ``BaseMetric``.
    """

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            score, label = sample['pred_score'].max(dim=-1)
            self.results.append((sample['img_path'], int(label), float(score)))

    def compute_metrics(self, results: list) -> dict:
        names = (self.dataset_meta or {}).get('classes')
        predictions = [
            {
                'file_name': file_name,
                'label': label,
                'class': names[label] if names else None,
                'score': score,
            }
            for file_name, label, score in results
        ]
        Path(self.path).write_text(json.dumps(predictions) + '\n', encoding='utf-8')
        return {}
