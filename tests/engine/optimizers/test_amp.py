from __future__ import annotations

from importlib import import_module

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from weightformer_mm.engine.optimizers.amp import Bf16OptimWrapper, half_precision, use_amp
from weightformer_mm.errors import UserError


class Recording(nn.Conv2d):
    """Notes in which precision it computes."""

    def forward(self, x):
        output = super().forward(x)
        self.computed.append(output.dtype)
        return output


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Recording(3, 4, 1)
        self.backbone.computed = []
        self.decode_head = nn.Linear(4, 2)
        self.roi_head = nn.Module()
        self.roi_head.bbox_head = nn.ModuleList([nn.Linear(4, 2)])

    def forward(self, x):
        features = self.backbone(x)
        pooled = features.mean((2, 3))
        # as mmdet's and as mmseg's heads are called
        return features, self.roi_head.bbox_head[0](pooled), self.decode_head.forward(pooled)


def test_parts_compute_in_bf16_and_hand_over_float32():
    net = Net()
    wrapper = Bf16OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1))
    for _ in range(2):
        with wrapper.optim_context(net):
            features, scores, logits = net(torch.ones(1, 3, 2, 2))
        assert features.dtype == scores.dtype == logits.dtype == torch.float32
        wrapper.update_params(scores.square().sum() + logits.square().sum())
    assert net.backbone.computed == [torch.bfloat16] * 2


@pytest.mark.parametrize('device_types', [['cuda'], []])
def test_devices_that_are_not_named_compute_in_float32(device_types, monkeypatch):
    monkeypatch.setattr('weightformer_mm.engine.optimizers.amp.get_device', lambda: 'cpu')
    net = Net()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='Bf16OptimWrapper',
            optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
            device_types=device_types,
            clip_grad=dict(max_norm=1.0),
        )
    )
    with wrapper.optim_context(net):
        features, *_ = net(torch.ones(1, 3, 2, 2))
    wrapper.update_params(features.square().sum())
    assert net.backbone.computed == [torch.float32]


def test_a_gpu_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr('weightformer_mm.engine.optimizers.amp.get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: False)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Tesla V100')
    net = Net()
    wrapper = Bf16OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1), device_types=['cuda'])
    with pytest.raises(UserError, match='Tesla V100 has no bfloat16; for float32'):
        with wrapper.optim_context(net):
            pass


def test_named_device_computes_in_bf16(monkeypatch):
    monkeypatch.setattr('weightformer_mm.engine.optimizers.amp.get_device', lambda: 'cpu')
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    wrapper = Bf16OptimWrapper(optimizer, device_types=['cpu'])
    with wrapper.optim_context(net):
        net(torch.ones(1, 3, 2, 2))
    assert net.backbone.computed == [torch.bfloat16]


def test_deformable_attention_samples_in_float32(monkeypatch):
    operator = import_module('mmcv.ops.multi_scale_deform_attn')
    sample, seen = operator.multi_scale_deformable_attn_pytorch, []

    def noting(value, shapes, locations, weights):
        seen.append((value.dtype, locations.dtype, weights.dtype))
        return sample(value, shapes, locations, weights)

    monkeypatch.setattr(operator, 'multi_scale_deformable_attn_pytorch', noting)
    monkeypatch.setattr('weightformer_mm.engine.optimizers.amp.get_device', lambda: 'cpu')
    net = nn.Module()
    net.encoder = operator.MultiScaleDeformableAttention(32, num_heads=4, num_levels=1)
    wrapper = Bf16OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1))
    tokens = torch.randn(6, 1, 32)
    with wrapper.optim_context(net):
        output = net.encoder(
            tokens,
            value=tokens,
            reference_points=torch.rand(1, 6, 1, 2),
            spatial_shapes=torch.tensor([[2, 3]]),
            level_start_index=torch.tensor([0]),
        )
    wrapper.update_params(output.square().sum())
    assert seen == [(torch.float32,) * 3]


def amp(device: str, monkeypatch, **wrapper: object) -> Config:
    monkeypatch.setattr('weightformer_mm.engine.optimizers.amp.get_device', lambda: device)
    cfg = Config({'optim_wrapper': {'optimizer': {'type': 'SGD'}, **wrapper}})
    use_amp(cfg)
    return cfg.optim_wrapper


def test_wrapper_fits_the_device(monkeypatch):
    cuda = amp('cuda', monkeypatch, type='OptimWrapper')
    assert (cuda.type, cuda.loss_scale) == ('AmpOptimWrapper', 'dynamic')
    assert amp('cuda', monkeypatch, type='AmpOptimWrapper', loss_scale=512.0).loss_scale == 512.0
    assert amp('cuda', monkeypatch, type='Bf16OptimWrapper').type == 'Bf16OptimWrapper'
    limited = amp('cpu', monkeypatch, type='Bf16OptimWrapper', device_types=['cuda'])
    assert dict(limited) == {'optimizer': {'type': 'SGD'}, 'type': 'Bf16OptimWrapper'}
    cpu = amp('cpu', monkeypatch, type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
    assert dict(cpu) == {'optimizer': {'type': 'SGD'}, 'type': 'Bf16OptimWrapper'}
    assert OPTIM_WRAPPERS.get(cpu.type) is Bf16OptimWrapper


def test_wrapper_that_cannot_be_combined(monkeypatch):
    with pytest.raises(UserError, match='--amp cannot be combined with .*=ApexOptimWrapper'):
        amp('cuda', monkeypatch, type='ApexOptimWrapper')
    with pytest.raises(UserError, match="not available on the device 'mps'"):
        amp('mps', monkeypatch)


def test_predictions_in_half_precision():
    net = Net()
    net.head, net.neck = nn.Linear(4, 2), nn.Identity()
    context = half_precision(net)
    for _ in range(2):
        with context, torch.no_grad():
            outputs = *net(torch.ones(1, 3, 2, 2)), net.head(torch.ones(1, 4))
        assert [output.dtype for output in outputs] == [torch.float32] * 4
    assert net.neck(torch.ones(1).half()).dtype == torch.float32  # as on a GPU
    assert net.backbone.computed == [torch.bfloat16] * 2
    net(torch.ones(1, 3, 2, 2))
    assert net.backbone.computed[2] == torch.float32


def test_a_device_without_half_precision_is_named():
    with pytest.raises(UserError, match='--half: no float16 on the device meta; run it without'):
        half_precision(nn.Linear(1, 1, device='meta'))
