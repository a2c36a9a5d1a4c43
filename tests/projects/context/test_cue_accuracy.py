from __future__ import annotations

import math

import pytest
import torch
from mmengine.registry import METRICS

from projects.context.cue_accuracy import CueAccuracy, count_cues

CLASSES = ('background', 'disk_red', 'disk_blue', 'cross_red', 'cross_blue')
IGNORE = 255


def evaluate(pairs, classes=CLASSES):
    metric = METRICS.build(dict(type='CueAccuracy'))
    metric.dataset_meta = {'classes': classes}
    for truth, prediction in pairs:
        sample = {
            'gt_sem_seg': {'data': truth[None]},
            'pred_sem_seg': {'data': prediction[None]},
        }
        metric.process({}, [sample])
    return metric.evaluate(sum(len(truth) for truth, _ in pairs))


def test_agrees_with_a_direct_count():
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(3):
        truth, prediction = torch.randint(0, 5, (2, 9, 7), generator=generator)
        truth[0] = IGNORE
        pairs.append((truth, prediction))
    right = found = objects = 0
    for truth, prediction in pairs:
        for was, said in zip(truth.flatten().tolist(), prediction.flatten().tolist()):
            if was in (0, IGNORE):
                continue
            objects += 1
            if said != 0 and CLASSES[was].split('_')[0] == CLASSES[said].split('_')[0]:
                found += 1
                right += CLASSES[was].split('_')[1] == CLASSES[said].split('_')[1]
    assert 0 < right < found < objects
    result = evaluate(pairs)
    assert result == {
        'cue_accuracy': pytest.approx(100 * right / found),
        'found': pytest.approx(100 * found / objects),
    }


@pytest.mark.parametrize(
    ('prediction', 'counts'),
    [
        ([1, 2, 3, 4, 0], (4, 4, 4)),  # all right
        ([2, 1, 4, 3, 0], (0, 4, 4)),  # each cue wrong
        ([3, 4, 1, 2, 0], (0, 0, 4)),  # each shape wrong
        ([0, 0, 0, 0, 1], (0, 0, 4)),  # background for objects, and the reverse
        ([1, 1, 0, 0, 0], (1, 2, 4)),
    ],
)
def test_counts_of_known_cases(prediction, counts):
    truth = torch.tensor([[1, 2, 3, 4, 0]], dtype=torch.uint8)
    assert count_cues(truth, torch.tensor([prediction]), CLASSES) == counts


def test_nothing_found_is_not_a_number():
    truth = torch.ones(2, 2, dtype=torch.long)
    result = evaluate([(truth, torch.zeros_like(truth))])
    assert math.isnan(result['cue_accuracy']) and result['found'] == 0


def test_it_is_the_metric_that_configs_name():
    assert METRICS.get('CueAccuracy') is CueAccuracy
