"""The cost of whole models of each library."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers.commands import DETECTION
from tests.helpers.uninitialised import Uninitialised
from weightformer_mm.analysis.complexity import count_operations
from weightformer_mm.apis.complexity import complexity_of_config, for_counting
from weightformer_mm.errors import UserError

ROOT = Path(__file__).parents[2]
# the pretrained one has the same model
CONFIGS = sorted((ROOT / 'configs/shapes').glob('*micro_*.py'))


@pytest.fixture
def undrawn():
    """Models whose weights hold anything: nothing depends on their values."""
    with Uninitialised():
        yield


def packaged(library: str, path: str, folder: Path) -> str:
    """A config with one of a library's own as its base."""
    base = Path(find_spec(library).origin).parent / '.mim/configs' / path
    config = folder / 'config.py'
    config.write_text(f'_base_ = {str(base)!r}\n')
    return str(config)


def published(path: str) -> dict:
    """What mmpretrain's model zoo says about a config."""
    folder = Path(find_spec('mmpretrain').origin).parent / '.mim/configs'
    models = yaml.safe_load((folder / path).with_name('metafile.yml').read_text())['Models']
    found, *_ = (model for model in models if model.get('Config') == f'configs/{path}')
    return found['Metadata']


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_shapes_configs(path):
    model, (result,) = complexity_of_config(str(path), [(64, 96)])
    _, (backbone,) = complexity_of_config(str(path), [(64, 96)], backbone=True)
    costs = {module.name: module for module in result.modules}
    assert result.total.parameters == sum(p.numel() for p in model.parameters())
    assert result.total.multiply_adds == sum(result.operations.values())
    assert 'aten::convolution' in result.operations
    assert costs['backbone'].multiply_adds == backbone.total.multiply_adds > 0
    assert costs['backbone'].elements == backbone.total.elements
    assert costs['backbone'].parameters == backbone.total.parameters
    parts = [module for module in result.modules if module.depth == 1]
    assert sum(part.multiply_adds for part in parts) == result.total.multiply_adds
    assert sum(part.elements for part in parts) <= result.total.elements
    detector = 'mask-rcnn' in path.stem
    assert set(result.not_counted) == ({'mmcv::roi_align', 'mmcv::nms'} if detector else set())
    text = '; '.join(result.notes)
    assert ('proposals after NMS (test_cfg.rpn.max_per_img=200)' in text) == detector
    assert ('auxiliary_head' in text) == ('upernet' in path.stem)


def test_nothing_depends_on_having_values():
    path = CONFIGS[-1]
    model, (without,) = complexity_of_config(str(path), [(64, 96)])
    assert not any('values' in note for note in without.notes)
    image = torch.randn(1, 3, 64, 96)
    with count_operations(model) as counts:
        model(image, mode='tensor')
    assert counts.total == without.total.multiply_adds
    assert sum(counts.elements.values()) == without.total.elements
    assert sum(counts.bytes.values()) == without.total.bytes


@pytest.mark.usefixtures('undrawn')
@pytest.mark.parametrize(
    'path',
    ['resnet/resnet18_8xb32_in1k.py', 'convnext/convnext-tiny_32xb128_in1k.py'],
)
def test_classifiers_cost_what_is_published(path, tmp_path):
    _, (result,) = complexity_of_config(packaged('mmpretrain', path, tmp_path))
    assert result.shape == (224, 224)
    assert result.total.multiply_adds == pytest.approx(published(path)['FLOPs'], rel=0.01)
    assert result.total.parameters == pytest.approx(published(path)['Parameters'], rel=0.001)
    assert not result.not_counted


@pytest.mark.usefixtures('undrawn')
def test_segmentor_costs_what_is_published(tmp_path):
    """UPerNet with Swin-T, SyncBN heads and pretrained weights: 60 M, 945 G (arXiv 2103.14030)."""
    path = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
    _, (result,) = complexity_of_config(packaged('mmseg', path, tmp_path), [(512, 2048)])
    assert result.total.multiply_adds == pytest.approx(945e9, rel=0.01)
    assert result.total.parameters == pytest.approx(60e6, rel=0.01)
    assert not any('Sync' in module.kind for module in result.modules)
    assert not result.not_counted


@pytest.mark.usefixtures('undrawn')
def test_segmentor_that_has_no_tensor_mode(tmp_path):
    path = 'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'
    _, (result,) = complexity_of_config(packaged('mmseg', path, tmp_path), [(64, 64)])
    assert result.total.multiply_adds > 0
    assert set(result.not_counted) == {'aten::grid_sampler_2d'}


@pytest.mark.usefixtures('undrawn')
def test_detector_whose_queries_are_parameters(tmp_path):
    config = packaged('mmdet', 'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', tmp_path)
    _, (result,) = complexity_of_config(config, [(64, 96)])
    assert set(result.not_counted) == {'aten::grid_sampler_2d'}
    assert not any('no part' in note for note in result.notes)


def test_each_stage_of_a_cascade_predicts_as_many_masks_as_mask_rcnn():
    folder = ROOT / 'configs/coco'
    cost = {}
    for head in ('mask-rcnn', 'cascade-mask-rcnn'):
        path = folder / f'{head}_pyramid-weightformer-tiny_fpn_ms-crop-3x_coco.py'
        options = ['model.backbone.arch=micro', 'model.neck.in_channels=[32,64,128,192]']
        boxes = [''] if head == 'mask-rcnn' else ['.0', '.1', '.2']
        narrow = [f'bbox_head{index}.fc_out_channels' for index in boxes]
        narrow += [f'bbox_head{index}.conv_out_channels' for index in boxes if index]
        narrow += ['mask_head.conv_out_channels']
        options += [f'model.roi_head.{name}=32' for name in narrow]
        options += ['model.test_cfg.rpn.max_per_img=120']
        model, (result,) = complexity_of_config(str(path), [(96, 96)], options=options)
        assert result.notes[1].startswith('120 proposals')  # of which 100 get a mask
        cost[head] = {module.name: module.multiply_adds for module in result.modules}
        assert 'roi_head.mask_head' in dict(model.named_modules())
    masks, three_times = (cost[head]['roi_head.mask_head'] for head in cost)
    assert three_times == 3 * masks > 0


def test_padding_is_said():
    _, (result,) = complexity_of_config(str(CONFIGS[0]), [(65, 96)])
    assert result.input_shape == (1, 3, 96, 96)
    assert 'the data preprocessor pads 65x96 to 96x96' in result.notes


def test_nothing_asks_for_weights_or_other_processes():
    cfg = dict(
        pretrained='open-mmlab://resnet50',
        backbone=dict(type='TIMMBackbone', pretrained=True, checkpoint='kept'),
        heads=[dict(init_cfg=dict(type='Pretrained', checkpoint='hf://a/b')), 1],
        neck=dict(init_cfg=[dict(type='Normal', layer='Linear', std=0.1)]),
        norm_cfg=dict(type='MMSyncBN', requires_grad=True),
    )
    assert for_counting(cfg) == dict(
        pretrained=None,
        backbone=dict(type='TIMMBackbone', pretrained=False, checkpoint='kept'),
        heads=[dict(init_cfg=None), 1],
        neck=cfg['neck'],
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    )
    assert cfg['backbone']['pretrained'] is True


def test_image_too_small(tmp_path):
    config = packaged('mmdet', 'ssd/ssd300_coco.py', tmp_path)
    with pytest.raises(UserError, match=r'SingleStageDetector cannot run at 20x20: \w+'):
        complexity_of_config(config, [(20, 20)])


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.neck.in_channels=[8,16,24]', 'does not hold: assert len'),
        ('model.neck.start_level=9', 'IndexError: '),
        ('model.rpn_head.anchor_generator.strides=[4,8]', r'\(mmdet/\S+, line \d+\)$'),
    ],
)
def test_parts_that_do_not_fit_are_one_line(option, message):
    with pytest.raises(UserError, match=f'cannot run at 64x64: .*{message}') as error:
        complexity_of_config(str(DETECTION), [(64, 64)], options=[option])
    assert '\n' not in str(error.value)
