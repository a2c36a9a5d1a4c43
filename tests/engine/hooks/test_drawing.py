"""The hooks of mmdet and mmseg draw on images as the pipeline loads them."""

from __future__ import annotations

import shutil
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import DETECTION, SEGMENTATION, options
from weightformer_mm.apis import train
from weightformer_mm.engine.hooks.drawing import on_loaded_images

SPLITS = ('train', 'val')


def turn(path):
    """As a camera that was held upright: what ignores this sees the former image."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, 'JPEG', exif=exif, quality=95)
    return 'color_ignore_orientation'


def deepen(path):
    """As a camera of 12 bits has it: too dark to see where 16 bits become 8."""
    image = cv2.imread(str(path)).astype(np.uint16) * 12
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    return 'unchanged'


def darkest_to_brightest(image):
    return (image - image.min()) / (image.max() - image.min())


@pytest.mark.parametrize('name', ['get', 'fileio'])
def test_either_way_in_which_a_hook_reads_files(name, tmp_path):
    """mmseg's module has imported the function, or the module that holds it."""
    reads = {'get': 'get', 'fileio': 'fileio.get'}[name]
    source = {'get': 'from mmengine.fileio import get', 'fileio': 'from mmengine import fileio'}[
        name
    ]
    module = ModuleType('hooks_of_a_library')
    sys.modules[module.__name__] = module
    code = f"""
import mmcv
{source}
from mmengine.hooks import Hook

class Drawing(Hook):
    def after_val_iter(self, path):
        self.seen = mmcv.imfrombytes({reads}(path), channel_order='rgb')
"""
    exec(code, vars(module))
    hook = on_loaded_images(module.Drawing)()
    hook._load = lambda item: {
        'img': np.full((2, 3), 7 if item['img_path'] == 'path' else 0, np.uint8)
    }
    hook.after_val_iter('path')
    assert np.array_equal(hook.seen, np.full((2, 3, 3), 7))
    hook._load = None
    with pytest.raises(FileNotFoundError):
        hook.after_val_iter(str(tmp_path / 'path'))
    del sys.modules[module.__name__]


@pytest.mark.parametrize('change', [turn, deepen])
@pytest.mark.parametrize('task', [DETECTION, SEGMENTATION], ids=['detection', 'segmentation'])
def test_validation_draws_what_was_loaded(task, change, shapes, tmp_path):
    root = shutil.copytree(shapes, tmp_path / 'set')
    first = sorted((root / 'images/val').glob('*.png'))[0]
    plain = darkest_to_brightest(cv2.imread(str(first)).astype(float))
    for path in root.glob('images/*/*.png'):
        color_type = change(path)
    given = options(task, root, default_hooks__visualization__draw=True)[1:]
    given += [f'{split}_dataloader.dataset.pipeline.0.color_type={color_type}' for split in SPLITS]
    given += ['default_hooks.visualization.interval=1', 'test_cfg=None', 'test_dataloader=None']
    given += ['visualizer.alpha=0.1'] if task == SEGMENTATION else []
    train(str(task), tmp_path / 'work', options=[*given, 'test_evaluator=None'])
    drawn = sorted((tmp_path / 'work').rglob('vis_image/*.png'))
    picture = darkest_to_brightest(cv2.imread(str(drawn[0])).astype(float)[:96, :96])
    turned = np.rot90(plain, -1)
    assert abs(picture - plain).mean() < 0.7 * abs(picture - turned).mean()
    assert cv2.imread(str(drawn[0])).max() > 128
