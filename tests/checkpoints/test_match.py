from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModel, BaseTTAModel
from torch import nn

from weightformer_mm.checkpoints.match import check_matches, get_state_dict
from weightformer_mm.errors import UserError


class Model(BaseModel):
    def __init__(self, width: int = 4, extra: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
        if extra:
            self.mask_head = nn.Linear(width, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.body(inputs)


class Renamed(Model):
    """Takes files in which ``body`` was still called ``trunk``."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for key in [key for key in state_dict if key.startswith(f'{prefix}trunk')]:
            state_dict[key.replace('trunk', 'body')] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


class TTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def saved(model: nn.Module) -> dict:
    return {'state_dict': model.state_dict(), 'meta': {'experiment_name': 'some_run'}}


@pytest.mark.parametrize(
    'checkpoint',
    [
        saved(Model()),
        Model().state_dict(),
        {'state_dict': {f'module.{k}': v for k, v in Model().state_dict().items()}},
        {k: v for k, v in Model().state_dict().items() if 'num_batches' not in k},
    ],
    ids=['checkpoint', 'weights alone', 'of DDP', 'without counters'],
)
def test_its_own_checkpoint_matches(checkpoint):
    check_matches(Model(), checkpoint, 'a.pth')
    check_matches(TTA(Model()), checkpoint, 'a.pth')


def test_a_checkpoint_that_the_model_converts_matches():
    old = {key.replace('body', 'trunk'): value for key, value in Model().state_dict().items()}
    check_matches(Renamed(), old, 'a.pth')
    with pytest.raises(UserError):
        check_matches(Model(), old, 'a.pth')


def test_what_differs_is_named():
    with pytest.raises(UserError) as caught:
        check_matches(Model(5, extra=True), saved(Model(4)), 'a.pth')
    text = str(caught.value)
    assert ' and 3 more. ' in text
    assert text.startswith('a.pth is a checkpoint of another model: ')
    assert 'weights missing: mask_head.weight, mask_head.bias; unexpected: none; ' in text
    assert 'of another shape: body.0.weight (4, 3) instead of (5, 3), ' in text

    with pytest.raises(UserError, match='unexpected: mask_head.weight, mask_head.bias;'):
        check_matches(Model(), saved(Model(extra=True)), 'a.pth')


@pytest.mark.parametrize('checkpoint', [{}, {'state_dict': 3}, {'a': 1}, {'state_dict': {'a': 1}}])
def test_no_weights(checkpoint):
    with pytest.raises(UserError, match='a.pth holds no weights of a model'):
        check_matches(Model(), checkpoint, 'a.pth')


def test_the_check_does_not_change_the_checkpoint():
    checkpoint = saved(Model())
    before = {key: value.clone() for key, value in checkpoint['state_dict'].items()}
    with pytest.raises(UserError):
        check_matches(Model(5), checkpoint, 'a.pth')
    assert before.keys() == checkpoint['state_dict'].keys()
    assert all(torch.equal(before[key], value) for key, value in checkpoint['state_dict'].items())


MISFITS = {
    'int64 instead of float32': ('body.0.weight', lambda t: t.long()),
    'bool instead of float32': ('body.0.weight', lambda t: t.bool()),
    'not finite': ('body.1.running_var', lambda t: t * float('inf')),
    'float32 instead of int64': ('body.1.num_batches_tracked', lambda t: t.float() + 0.5),
    'too large': ('small', lambda t: t.long() + 1000),
    'bool instead of uint8': ('small', lambda t: t.bool()),
    'float16 instead of bool': ('flag', lambda t: t.half()),
}


@pytest.mark.parametrize('why', MISFITS)
def test_values_of_another_kind(why):
    name, change = MISFITS[why]
    model = Model()
    model.register_buffer('small', torch.tensor(3, dtype=torch.uint8))
    model.register_buffer('flag', torch.tensor(True))
    checkpoint = saved(model)
    check_matches(model, checkpoint, 'a.pth')
    checkpoint['state_dict'][name] = change(checkpoint['state_dict'][name])
    with pytest.raises(UserError, match=f'of another kind: {name} {why}'):
        check_matches(model, checkpoint, 'a.pth')


def test_kinds_that_stand_for_one_another():
    model = Model()
    model.register_buffer('mask', torch.tensor([0.0, float('-inf')]))
    weights = {
        name: v.double() if v.is_floating_point() else v.to(torch.int16)
        for name, v in model.state_dict().items()
    }
    check_matches(model, weights, 'a.pth')
    weights['mask'] = -weights['mask']
    with pytest.raises(UserError, match='mask not finite'):
        check_matches(model, weights, 'a.pth')
    large = {**model.state_dict(), 'body.0.bias': torch.full((4,), 1e300, dtype=torch.float64)}
    with pytest.raises(UserError, match='body.0.bias not finite'):
        check_matches(model, large, 'a.pth')


def test_a_model_that_converts_takes_no_other_kinds():
    old = {key.replace('body', 'trunk'): value for key, value in Model().state_dict().items()}
    for change in (torch.Tensor.long, lambda t: t * float('inf')):
        weights = {**old, 'trunk.0.weight': change(old['trunk.0.weight'])}
        with pytest.raises(UserError):
            check_matches(Renamed(), weights, 'a.pth')


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        (torch.Tensor.to_sparse, 'of layout sparse_coo'),
        (lambda t: t.to('meta'), 'without values'),
        (lambda t: t * float('nan'), 'NaN'),
        (torch.Tensor.cfloat, 'of type complex64'),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), 'of type qint8'),
    ],
)
def test_what_no_model_can_take(change, why):
    weights = {'a.weight': change(torch.ones(2, 2))}
    with pytest.raises(UserError, match=rf'a.pth holds .* no model can take: a.weight \({why}'):
        get_state_dict(weights, 'a.pth')


@pytest.mark.parametrize('others', [['module.body.0.bias'], ['module.x']])
def test_a_wrapper_of_some_names_only(others):
    weights = {**Model().state_dict(), **{name: torch.ones(4) for name in others}}
    with pytest.raises(UserError, match=f'{others[0]} begin with module.'):
        get_state_dict(weights, 'a.pth')
    with pytest.raises(UserError, match='holds no weights'):
        get_state_dict({**Model().state_dict(), 3: torch.ones(1)}, 'a.pth')


@pytest.mark.parametrize('container', ['state_dict', 'model', None])
@pytest.mark.parametrize(
    'inserted', ['_orig_mod.', 'module._orig_mod.', '_orig_mod.module.', 'module.']
)
def test_names_of_compiled_and_wrapped_models_match(container, inserted):
    model = Model()
    weights = {f'{inserted}{name}': value for name, value in model.state_dict().items()}
    check_matches(model, {container: weights} if container else weights, 'x.pth')
    inner = {
        name.replace('.', '._orig_mod.', 1): value for name, value in model.state_dict().items()
    }
    check_matches(model, {container: inner} if container else inner, 'x.pth')


def test_a_name_with_and_without_a_wrapper_is_damage():
    weights = Model().state_dict()
    name = next(iter(weights))
    with pytest.raises(UserError, match='is damaged: without the parts of wrappers, _orig_mod'):
        check_matches(Model(), {**weights, f'_orig_mod.{name}': weights[name]}, 'x.pth')
