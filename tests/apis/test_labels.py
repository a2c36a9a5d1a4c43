"""A segmentor without logits gives mmseg's own labels, in little memory."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.apis.test_strips import HEADS, NECKS, batch, build
from weightformer_mm.apis.labels import keep_labels


@pytest.mark.parametrize('classes', [2, 5, 19])
@pytest.mark.parametrize('head', [*HEADS, 'psp'])
@torch.no_grad()
def test_labels_are_those_of_mmseg_bit_for_bit(head, classes):
    psp = dict(type='PSPHead', in_channels=20, in_index=3, channels=8)
    model = build(dict(HEADS.get(head, psp), num_classes=classes), NECKS.get(head)).float()
    model.data_preprocessor._forward_hooks.clear()  # which makes float64
    images = batch((64, 96), (75, 58))
    images['inputs'] *= 2
    images['data_samples'] += batch((64, 96), (101, 67), flip=True, flip_direction='horizontal')[
        'data_samples'
    ]
    expected = model.test_step(copy.deepcopy(images))
    keep_labels(model)
    for found, whole in zip(model.test_step(images), expected):
        assert 'seg_logits' not in found and 'seg_logits' in whole
        assert torch.equal(found.pred_sem_seg.data, whole.pred_sem_seg.data)
        assert len(whole.pred_sem_seg.data.unique()) > 1
        assert found.pred_sem_seg.data.dtype == whole.pred_sem_seg.data.dtype


@torch.no_grad()
def test_one_channel_keeps_its_threshold():
    head = dict(HEADS['fcn'], num_classes=2, out_channels=1, threshold=0.4)
    model = build(head)
    (expected,) = model.test_step(batch((75, 58)))
    keep_labels(model)
    (found,) = model.test_step(batch((75, 58)))
    assert 'seg_logits' not in found
    assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)


def test_slide_mode_and_other_models_stay_as_they_are():
    cut = dict(mode='slide', crop_size=(32, 32), stride=(32, 32))
    for model in (build(HEADS['fcn'], test_cfg=cut), torch.nn.Linear(1, 1)):
        keep_labels(model)
        assert 'predict' not in vars(model)


MEASURED = """
import resource, sys, torch
from tests.apis.test_strips import HEADS, batch, build
from weightformer_mm.apis.labels import keep_labels
torch.set_grad_enabled(False)
model = build(dict(HEADS['fcn'], num_classes=150)).float()
model.data_preprocessor._forward_hooks.clear()
keep_labels(model)
model.test_step(batch((256, 256)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.test_step(batch((256, 256), (1024, 1024)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6)
"""


def test_memory_beyond_the_network():
    """In a process of its own: 0.1 GB for each megapixel; mmseg's logits alone are 0.6 GB."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, '-c', MEASURED], cwd=root, capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[-1]) < 0.1 * 1024**2 / 1e6
