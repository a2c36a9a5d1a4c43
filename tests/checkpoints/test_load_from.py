"""``load_from``: what a checkpoint gives to a model, and when it is refused."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel, PretrainedInit
from torch import nn

from weightformer_mm.backbones import PyramidWeightFormer
from weightformer_mm.checkpoints.pretrained import (
    PretrainedWeights,
    initial_weights,
    refuse_lenient_loading,
)
from weightformer_mm.errors import UserError

ARCH = dict(embed_dims=(8, 16), depths=(3, 3))


class Detector(BaseModel):
    def __init__(self, classes: int = 4):
        super().__init__()
        self.backbone = PyramidWeightFormer(arch=ARCH, out_indices=(0, 1))
        self.neck = nn.Linear(16, 8)
        self.roi_head = nn.Linear(8, classes)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': self.roi_head(self.neck(self.backbone(inputs)[-1].mean((2, 3)))).sum()}


class Segmentor(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = PyramidWeightFormer(arch=ARCH, out_indices=(0, 1))
        self.neck = nn.Linear(16, 8)
        self.decode_head = nn.Linear(8, 5)


def random_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.randn_like(value) for name, value in module.state_dict().items()}


def read(model: nn.Module, weights: dict, folder, **allowed) -> dict[str, torch.Tensor]:
    torch.save({'state_dict': weights}, folder / 'weights.pth')
    return PretrainedWeights(str(folder / 'weights.pth'), **allowed).for_model(model)


def test_same_model_gives_everything(tmp_path):
    weights = random_weights(Detector())
    taken = read(Detector(), weights, tmp_path)
    assert taken.keys() == weights.keys()
    assert all(torch.equal(taken[name], weights[name]) for name in weights)


@pytest.mark.parametrize('kind', ['backbone', 'segmentor', 'classifier'])
def test_another_kind_of_model_gives_its_backbone(kind, tmp_path):
    backbone = random_weights(Detector().backbone)
    weights = {f'backbone.{name}': value for name, value in backbone.items()}
    if kind == 'backbone':
        weights = {**backbone, 'head.weight': torch.zeros(9, 16), 'head.bias': torch.zeros(9)}
    elif kind == 'segmentor':
        weights = {**random_weights(Segmentor()), **weights}
    else:
        weights['head.fc.weight'] = torch.zeros(9, 16)
    taken = read(Detector(), weights, tmp_path)
    assert taken.keys() == {f'backbone.{name}' for name in backbone}
    assert all(torch.equal(taken[f'backbone.{name}'], backbone[name]) for name in backbone)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda w: w.pop('neck.bias'),
            'missing: neck.bias; unexpected: none; of another shape: no',
        ),
        (lambda w: w.update(extra=torch.ones(1)), 'missing: none; unexpected: extra; '),
        (
            lambda w: w.update({'roi_head.bias': torch.ones(9)}),
            r'shape: roi_head.bias \(9,\) instead of \(4,\)',
        ),
        (lambda w: w.pop('backbone.norm1.bias'), r'missing: backbone\.norm1\.bias'),
    ],
)
def test_a_model_of_the_same_kind_must_fit_as_a_whole(change, message, tmp_path):
    weights = random_weights(Detector())
    change(weights)
    with pytest.raises(UserError, match=rf'load_from=.*weights\.pth: weights .*{message}'):
        read(Detector(), weights, tmp_path)


def test_the_backbone_of_another_kind_of_model_must_fit(tmp_path):
    weights = random_weights(Segmentor())
    del weights['backbone.norm1.bias']
    with pytest.raises(UserError, match=r'are incomplete.*missing: norm1\.bias'):
        read(Detector(), weights, tmp_path)
    del weights['backbone.norm1.weight']
    with pytest.raises(UserError, match='other out_indices.*allow_missing='):
        read(Detector(), weights, tmp_path)
    taken = read(Detector(), weights, tmp_path, allow_missing=('backbone.norm1.*',))
    assert 'backbone.norm1.bias' not in taken and 'backbone.norm0.weight' in taken


def test_what_may_differ_is_said(tmp_path):
    weights = {**random_weights(Detector(classes=9)), 'extra': torch.ones(1)}
    allowed = dict(allow_missing=('roi_head.*',), allow_unexpected=('ext*',))
    taken = read(Detector(), weights, tmp_path, **allowed)
    assert weights.keys() - taken.keys() == {'roi_head.weight', 'roi_head.bias', 'extra'}
    with pytest.raises(UserError, match='unexpected: extra; of another shape: none'):
        read(Detector(), weights, tmp_path, allow_missing=('roi_head.*',))


def test_a_checkpoint_that_lost_its_heads_is_not_one_of_another_kind(tmp_path):
    weights = {n: v for n, v in random_weights(Detector()).items() if not n.startswith('roi_head')}
    with pytest.raises(UserError, match='missing: roi_head.weight, roi_head.bias'):
        read(Detector(), weights, tmp_path)


@pytest.mark.parametrize('init_cfg', [PretrainedInit, 'Pretrained', 'PretrainedInit'])
def test_lenient_loading_of_the_whole_model_is_refused(init_cfg):
    given = dict(type=init_cfg, checkpoint='a.pth')
    for value in (given, [dict(type='Xavier'), given]):
        with pytest.raises(UserError, match='what fits of a.pth.*give it as load_from'):
            refuse_lenient_loading(Config(dict(model=dict(init_cfg=value))))
    refuse_lenient_loading(Config(dict(model=dict(init_cfg=dict(type='Xavier')))))


def test_a_model_without_backbone(tmp_path):
    with pytest.raises(UserError, match='not weights of a Linear, which has no backbone'):
        read(nn.Linear(2, 2), random_weights(Detector()), tmp_path)


def test_forms_of_load_from():
    def parse(**values):
        cfg = Config(values)
        return initial_weights(cfg), cfg.get('load_from')

    assert parse() == (None, None)
    assert parse(load_from='a.pth', resume=True) == (None, 'a.pth')
    assert parse(load_from='a.pth') == (PretrainedWeights('a.pth', [], []), 'a.pth')
    given = dict(checkpoint='a.pth', allow_missing='neck.*', allow_unexpected=['x', 'y'])
    assert parse(load_from=given) == (PretrainedWeights('a.pth', ['neck.*'], ['x', 'y']), 'a.pth')
    for wrong in (dict(allow_missing=['a']), dict(checkpoint='a.pth', strict=False)):
        with pytest.raises(
            UserError, match='load_from: expected a path, or a dict with checkpoint'
        ):
            parse(load_from=wrong)
