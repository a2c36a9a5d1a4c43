from __future__ import annotations

from pathlib import Path

import pytest
import torch

from projects.benchmark import whole_model
from projects.benchmark.memory_process import subject_from
from projects.benchmark.steps import Case
from projects.benchmark.whole_model import WholeModel, make_batch
from weightformer_mm.errors import UserError

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
DETECTION = CONFIGS / 'shapes/mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py'
SEGMENTATION = CONFIGS / 'shapes/upernet_pyramid-weightformer-micro_shapes.py'
CLASSIFICATION = CONFIGS / 'shapes/pyramid-weightformer-micro_shapes.py'


@pytest.mark.parametrize('config', [DETECTION, SEGMENTATION], ids=['detection', 'segmentation'])
def test_whole_models_train_and_predict(config):
    detector = WholeModel(str(config))
    torch.manual_seed(0)
    model = detector.build()
    step = detector.step(model, Case('train', 'float32', 2, 64, 96), torch.device('cpu'))
    step.run()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    # masks reach the mask head, boxes the box head: each has a gradient that is not nothing
    for name, child in model.named_children():
        gradients = [p.grad.abs().sum() for p in child.parameters() if p.grad is not None]
        assert not gradients or sum(gradients) > 0, name
    detector.step(model, Case('inference', 'float32', 1, 64, 96), torch.device('cpu')).run()
    assert not model.training


@pytest.mark.parametrize('mode', ['train', 'inference'])
def test_samples_stay_as_they_were(mode, monkeypatch):
    batches = []

    def kept(*args):
        batches.append(make_batch(*args))
        return batches[-1]

    monkeypatch.setattr(whole_model, 'make_batch', kept)
    detector, case = WholeModel(str(DETECTION)), Case(mode, 'float32', 1, 50, 70)
    step = detector.step(detector.build(), case, torch.device('cpu'))
    step.run()
    fresh = make_batch('mmdet', case)['data_samples'][0]
    (sample,) = batches[0]['data_samples']  # which preprocessing pads
    assert sample.metainfo == fresh.metainfo
    assert sample.gt_instances.masks.masks.shape == fresh.gt_instances.masks.masks.shape


def test_options_and_the_way_to_another_process():
    subject = WholeModel(str(SEGMENTATION), ('model.decode_head.channels=16',))
    assert subject.name == SEGMENTATION.stem
    assert subject_from(subject.spec()) == subject
    assert subject.build().decode_head.channels == 16
    assert subject.multiply_adds(Case('train', 'float32', 1, 64, 64)) is None
    counted = [
        subject.multiply_adds(Case('inference', 'float32', batch, 64, 64)) for batch in (1, 2)
    ]
    assert counted[1] == 2 * counted[0] > 0


def test_other_configs_are_refused(tmp_path):
    with pytest.raises(UserError, match='mmdet and mmseg'):
        WholeModel(str(CLASSIFICATION)).build()
    bare = tmp_path / 'bare.py'
    bare.write_text(
        "default_scope = 'mmdet'\ncustom_imports = dict(imports=['weightformer_mm'])\n"
        "model = dict(type='PyramidWeightFormer', arch='micro')\n"
    )
    with pytest.raises(UserError, match='not a whole detector'):
        WholeModel(str(bare)).build()
