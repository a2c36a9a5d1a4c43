"""The Python examples of the pages that have no test of their own, run as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, VISBACKENDS, DefaultScope
from torch import nn

from tests.helpers.commands import Fork
from tests.helpers.pages import PAGES, ROOT, blocks
from weightformer_mm.apis.export import Form, export
from weightformer_mm.backbones import PyramidWeightFormer

# pages, and the test that runs their examples
ELSEWHERE = {
    'README.md': 'tests/test_readme.py',
    'docs/custom_data.md': 'tests/docs/test_custom_data_page.py',
    'docs/pretraining.md': 'tests/test_pretraining_page.py',
    'docs/python.md': 'tests/docs/test_python_page.py',
    'docs/strategies.md': 'tests/docs/test_strategies_page.py',
    'docs/training.md': 'tests/docs/test_training_page.py',
}


def test_every_example_is_run():
    here = set(re.findall(r"blocks\('(.*)'\)", Path(__file__).read_text()))
    assert {str(page.relative_to(ROOT)) for page in PAGES if blocks(page)} == here | set(ELSEWHERE)
    assert all(Path(page).name in (ROOT / test).read_text() for page, test in ELSEWHERE.items())


@pytest.fixture
def recipe(tmp_path):
    """A function that reads a config that lies beside the recipes of a folder."""
    without_weights = shutil.ignore_patterns('*.safetensors', '__pycache__')
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs', ignore=without_weights)

    def read(text: str, folder: str) -> Config:
        path = tmp_path / 'configs' / folder / 'mine.py'
        path.write_text(text)
        return Config.fromfile(path)

    return read


def run(example: str, **names: object) -> dict[str, object]:
    exec(compile(example, 'example', 'exec'), names)
    return names


def test_networks(tmp_path):
    """The last example is run where timm's models are tested."""
    dilated, config, _ = blocks('docs/networks.md')
    (tmp_path / 'mine.py').write_text(dilated)
    model = Config.fromfile(tmp_path / 'mine.py').model
    assert model.pretrained is None and model.decode_head.type == 'ASPPHead'
    with DefaultScope.overwrite_default_scope('mmengine'):
        backbone = MODELS.build(model.backbone)
    heads = model.decode_head, model.auxiliary_head
    assert [backbone.out_channels[head.in_index] for head in heads] == [
        head.in_channels for head in heads
    ]
    assert backbone.out_strides == (4, 8, 8, 8)
    with DefaultScope.overwrite_default_scope('mmengine'):
        backbone = MODELS.build(run(config)['backbone'])
    assert backbone.memory_efficient


def test_image_sizes(recipe, tmp_path, monkeypatch):
    drawing, config, tiles = blocks('docs/image_sizes.md')
    (tmp_path / 'tests').symlink_to(ROOT / 'tests')
    monkeypatch.chdir(tmp_path)
    names = run(drawing)
    assert Path('padding.png').stat().st_size > 10_000
    for one, padded, own in zip(names['alone'], *names['rows'].values()):
        one, padded, own = (
            maps[0, :, : one.shape[2], : one.shape[3]] for maps in (one, padded, own)
        )
        assert (own - one).norm() < 1e-5 * one.norm()
        assert (padded - one).norm() > 0.05 * one.norm()
    assert run(tiles)['change'].max() > 0.1 and Path('tiles.png').exists()
    base = f"_base_ = './{next((ROOT / 'configs/coco').glob('mask-rcnn*_1x_*')).name}'\n"
    assert recipe(base + config, 'coco').model.data_preprocessor.type == 'SizedDetDataPreprocessor'


def test_loading(recipe, tmp_path, monkeypatch):
    config, released, allowing = blocks('docs/loading.md')
    model = recipe(config, 'coco').model
    assert model.backbone.init_cfg == run(released)['init_cfg']
    assert model.neck.type == 'SimpleFeaturePyramid' and model.roi_head.mask_head

    arch = dict(embed_dims=(8, 16), depths=(1, 1))
    weights = PyramidWeightFormer(arch, out_indices=1).state_dict()
    (tmp_path / 'work_dirs/classifier').mkdir(parents=True)
    torch.save(
        {**weights, 'aux_head.weight': torch.ones(1)},
        tmp_path / 'work_dirs/classifier/epoch_300.pth',
    )
    monkeypatch.chdir(tmp_path)
    backbone = PyramidWeightFormer(arch, out_indices=(0, 1), init_cfg=run(allowing)['init_cfg'])
    backbone.init_weights()
    assert all(torch.equal(backbone.state_dict()[name], value) for name, value in weights.items())


def test_complexity():
    (example,) = blocks('docs/complexity.md')
    assert example.endswith('.total.multiply_adds\n')
    names = run(example.replace('measure(model', 'count = measure(model'), model=nn.Conv2d(3, 2, 1))
    assert names['count'] == 800 * 1280 * 3 * 2


def test_cityscapes(recipe):
    (example,) = blocks('docs/cityscapes.md')
    model = recipe(example, 'cityscapes').model
    for head in (model.decode_head, model.auxiliary_head):
        assert head.norm_cfg == dict(type='SyncBN', requires_grad=True)


def test_recipes(recipe):
    (example,) = blocks('docs/recipes.md')
    base = "_base_ = './mask-rcnn_pyramid-weightformer-tiny_fpn_1x_coco.py'\n"
    cfg = recipe(base + example, 'coco')
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert HOOKS.get(cfg.default_hooks.ema.type)
        backends = [VISBACKENDS.get(backend.type) for backend in cfg.visualizer.vis_backends]
    assert all(backends) and len(backends) == 2


def test_installed(tmp_path):
    config, from_python, without_import = blocks('docs/installed.md')
    for name, text in (('mine', config), ('other', without_import)):
        (tmp_path / f'{name}.py').write_text(text)
    assert Config.fromfile(tmp_path / 'mine.py').model.backbone.drop_path_rate == 0.2
    names = run(from_python)
    assert names['cfg'].model.type == type(names['model']).__name__ == 'EncoderDecoder'
    script = "from mmengine.config import Config\nprint(Config.fromfile('other.py').model.type)\n"
    (tmp_path / 'script.py').write_text(script)
    read = Fork([str(tmp_path / 'script.py')], tmp_path, {}, openmmlab=False).wait()
    assert read.ok() == 'MaskRCNN\n'


@pytest.mark.parametrize(
    'weights',
    [
        'upernet_pyramid-weightformer-micro_shapes',
        'mask-rcnn_pyramid-weightformer-micro_fpn_shapes',
    ],
)
def test_exported_files_draw_as_the_page_says(weights, shapes, tmp_path, monkeypatch):
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    export(weights, weights, 'model.onnx', Form(size=(96, 80)), with_preprocessing=True)
    image = cv2.imread(str(next((shapes / 'images/val').iterdir())))
    cv2.imwrite('image.png', image)
    run(blocks('docs/deploy.md')[0])
    drawn = cv2.imread('seen.png')
    assert drawn.shape == image.shape
    assert (drawn != image).any()


def test_exported_backbones_run_as_the_page_says(tmp_path, monkeypatch):
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks('docs/deploy.md')[1:]:
        exec(block, names)
    assert [each.shape[2:] for each in names['maps']] == [(25, 41), (13, 21), (7, 11), (4, 6)]
