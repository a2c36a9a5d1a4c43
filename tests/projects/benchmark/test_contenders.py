from __future__ import annotations

import inspect

import pytest
import torch

from projects.benchmark.contenders import TABLE, VARIANTS, parse_contenders
from projects.benchmark.steps import Case
from weightformer_mm.backbones import PyramidWeightFormer
from weightformer_mm.errors import UserError
from weightformer_mm.layers import AttentionBlock

SIZE = (96, 64)
QUICK = [name for name in TABLE if not name.endswith(('small', 'base'))]


def build(name):
    (contender,) = parse_contenders([name])
    model = contender.build()
    model.eval()  # returns None for mmdet's Swin
    return contender, model


def test_the_table_has_what_is_compared():
    assert set(TABLE) >= {
        *(f'weightformer-{arch}' for arch in ('tiny', 'small', 'base')),
        *(f'pyramid-{arch}' for arch in ('micro', 'nano', 'tiny', 'small', 'base')),
        *('published-tiny', 'published-small'),
        *(f'plain-pyramid-{arch}' for arch in ('micro', 'tiny', 'small')),
        *(
            'swin-tiny',
            'swin_tiny_patch4_window7_224',
            'convnext_tiny',
            'pvt_v2_b2',
            'pvt_v2_b2_li',
            'deit_small_patch16_224',
        ),
    }


@pytest.mark.parametrize('name', QUICK)
def test_contender_gives_the_strides_it_declares(name):
    contender, model = build(name)
    height, width = (SIZE[0], SIZE[0]) if contender.entry.square else SIZE
    with torch.inference_mode():
        outputs = model(torch.randn(1, 3, height, width))
    strides = contender.entry.strides
    assert len(outputs) == len(strides)
    for output, stride in zip(outputs, strides):
        assert output.shape[2:] == (height // stride, width // stride)
    assert getattr(model, 'out_strides', strides) == strides


def test_swin_is_the_published_swin_t():
    _, model = build('swin-tiny')
    assert type(model).__module__.startswith('mmdet.')
    # 28.3 M of the classifier less its head, with a norm on each output
    assert sum(parameter.numel() for parameter in model.parameters()) == 27_520_698


def test_deit_attends_with_the_fused_kernel():
    _, model = build('deit_small_patch16_224')
    attention = [m for m in model.modules() if hasattr(m, 'fused_attn')]
    assert len(attention) == 12 and all(module.fused_attn for module in attention)


def test_cp_and_attention_reach_the_backbone():
    assert build('pyramid-micro+cp')[1].with_cp
    _, model = build('pyramid-micro+attention')
    assert any(isinstance(module, AttentionBlock) for module in model.modules())


@pytest.mark.parametrize('variant', [name for name, options in VARIANTS.items() if options])
def test_variant_passes_its_argument_and_no_other(variant):
    plain, changed = parse_contenders(['pyramid-micro', f'pyramid-micro+{variant}'])
    assert plain.options == {} and changed.options == VARIANTS[variant]
    if not set(changed.options) <= set(inspect.signature(PyramidWeightFormer).parameters):
        pytest.skip(f'the backbones do not have {", ".join(changed.options)}')
    if variant != 'triton':  # which may refuse a machine without a GPU
        changed.build()


def test_variants_combine_and_only_different_work_is_counted_apart():
    (contender,) = parse_contenders(['pyramid-tiny+cp+attention+compile'])
    assert contender.name == 'pyramid-tiny+cp+attention+compile'
    assert contender.options == {'with_cp': True, 'token_mixer': 'attention'}
    assert contender.work.name == 'pyramid-tiny+attention'


@pytest.mark.parametrize(('variant', 'dynamic'), [('compile', True), ('compile_static', False)])
@pytest.mark.parametrize('mode', ['inference', 'train'])
def test_compile_compiles_what_the_step_calls(mode, variant, dynamic, monkeypatch):
    calls = []

    def compiled(call, dynamic):
        return lambda *args: calls.append(dynamic) or call(*args)

    monkeypatch.setattr(torch, 'compile', compiled)
    case = Case(mode, 'float32', 1, 32, 32)
    for name in ('pyramid-micro', f'pyramid-micro+{variant}'):
        (contender,) = parse_contenders([name])
        contender.step(contender.build(), case, torch.device('cpu')).run()
    assert calls == [dynamic]


@pytest.mark.parametrize(
    ('variant', 'dtype', 'expected'),
    [('graph', 'float32', 'need a GPU'), ('pure', 'float32', '--dtype')],
)
def test_what_a_variant_cannot_do_is_said(variant, dtype, expected):
    (contender,) = parse_contenders([f'pyramid-micro+{variant}'])
    with pytest.raises(UserError, match=expected):
        contender.step(contender.build(), Case('train', dtype, 1, 32, 32), torch.device('cpu'))


def test_published_form_takes_squares_only():
    published, ours = parse_contenders(['published-tiny', 'weightformer-tiny'])
    assert 'square' in published.refuses(800, 1280)
    assert published.refuses(512, 512) is None and ours.refuses(800, 1280) is None


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['pyramid-tinny'], 'did you mean pyramid-tiny?'),
        (['nothing'], 'swin-tiny'),
        (['pyramid-tiny+fast'], 'memory, cp, attention'),
        (['swin-tiny+memory'], 'weightformer-* and pyramid-* only'),
        (['pyramid-tiny+cp+cp'], 'given twice'),
        (['pyramid-tiny', 'pyramid-tiny'], 'given twice'),
        (['pyramid-tiny+torch+triton'], 'exclude each other'),
        (['swin-tiny+compile+compile_static'], 'exclude each other'),
    ],
)
def test_wrong_names(names, expected):
    with pytest.raises(UserError) as error:
        parse_contenders(names)
    assert expected in str(error.value)
