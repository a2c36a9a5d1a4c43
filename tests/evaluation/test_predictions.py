from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from PIL import Image

from weightformer_mm.apis.test import _write_predictions
from weightformer_mm.evaluation.predictions import DumpClasses, write_labels


def test_the_likeliest_class_of_every_image(tmp_path):
    scores = {'a.png': [0.1, 0.7, 0.2], 'b.png': [0.5, 0.3, 0.2]}
    samples = [
        {'img_path': name, 'pred_score': torch.tensor(score)} for name, score in scores.items()
    ]
    for meta, names in (({'classes': ('x', 'y', 'z')}, ('y', 'x')), (None, (None, None))):
        metric = DumpClasses(str(tmp_path / 'classes.json'))
        metric.dataset_meta = meta
        metric.process(None, samples[:1])
        metric.process(None, samples[1:])
        assert metric.evaluate(size=2) == {}
        written = json.loads((tmp_path / 'classes.json').read_text())
        assert [entry['file_name'] for entry in written] == ['a.png', 'b.png']
        assert [entry['label'] for entry in written] == [1, 0]
        assert tuple(entry['class'] for entry in written) == names
        assert torch.allclose(
            torch.tensor([entry['score'] for entry in written]), torch.tensor([0.7, 0.5])
        )


def test_two_evaluators_do_not_share_a_file(tmp_path):
    kinds = ('CocoMetric', 'mmdet.CocoMetric', 'LVISMetric', 'CocoPanopticMetric')
    cfg = Config({'test_evaluator': [{'type': kind} for kind in kinds]})
    assert not _write_predictions(cfg, tmp_path)
    prefixes = [evaluator['outfile_prefix'] for evaluator in cfg.test_evaluator]
    names = ('detections', 'detections-2', 'detections-3', 'panoptic')
    assert prefixes == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize(('most', 'kind'), [(254, np.uint8), (255, np.uint16), (299, np.uint16)])
def test_labels_beyond_a_byte_are_not_cut(most, kind, tmp_path):
    from mmseg.structures import SegDataSample

    labels = torch.tensor([[[0, 1, most]]])
    write_labels(SegDataSample(pred_sem_seg=PixelData(data=labels)), tmp_path / 'a.png', True)
    written = np.asarray(Image.open(tmp_path / 'a.png'))
    assert written.tolist() == [[1, 2, most + 1]] and written.dtype.itemsize == kind().itemsize
