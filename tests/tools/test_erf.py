"""``tools/erf.py`` as a user runs it."""

from __future__ import annotations

import json

import cv2
import pytest
from mmengine.config import Config

from tests.helpers.commands import SEGMENTATION

SMALL = ('--count', '1', '--size', '64', '96')


def test_before_and_after_training(tools, segmentation, shapes, tmp_path):
    out = tmp_path / 'new' / 'erf.png'
    result = tools.run(
        'erf', SEGMENTATION, segmentation.checkpoint, '--before-after', '--out', out, *SMALL,
        '--images', shapes / 'images' / 'val',
    )  # fmt: skip
    assert '| after training | config |' in result.ok()
    assert cv2.imread(str(out)) is not None
    numbers = json.loads(out.with_suffix('.json').read_text())
    assert list(numbers) == ['before training', 'after training']
    before, after = (numbers[row]['config'] for row in numbers)
    assert list(before) == ['beyond 25%', 'beyond 50%', 'beyond 75%']
    assert before != after


def test_one_column_per_strategy(tools, tmp_path):
    out = tmp_path / 'erf.png'
    names = ['static', 'published', 'attention']
    two_stages = ('--cfg-options', 'model.backbone.out_indices=(0,1)', '--size', '128', '128')
    tools.run(
        'erf', SEGMENTATION, '--out', out, '--strategies', *names, *SMALL[:2], *two_stages
    ).ok()
    numbers = json.loads(out.with_suffix('.json').read_text())['before training']
    assert list(numbers) == names
    assert [shares['beyond 75%'] > 0 for shares in numbers.values()] == [False, True, True]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--out', 'erf.jpg'], 'ends in .png'),
        (['--out', 'erf.png', '--before-after'], 'needs the CHECKPOINT'),
        (
            ['--out', 'erf.png', '--strategies', 'magic'],
            "unknown strategy 'magic'; choose from static,",
        ),
        (['--out', 'erf.png', '--images', '/none'], 'no such image or folder: /none'),
        (['--out', 'erf.png', '--size', '2', '2'], 'images of at least 4x4 pixels'),
        (['a.pth', '--out', 'erf.png', '--strategies', 'static', 'attention'], '{strategy}'),
        (['a.pth', '--out', 'erf.png'], 'checkpoint not found: a.pth'),
        (['--out', 'erf.png', '--count', '0'], 'at least one image'),
    ],
)
def test_bad_input(tools, arguments, message):
    assert message in tools.run('erf', SEGMENTATION, *arguments).error_line()
    assert not (tools.folder / 'erf.png').exists()


def test_nothing_that_is_read_is_replaced(tools, shapes, tmp_path):
    cfg = Config.fromfile(SEGMENTATION)
    cfg.dump(tmp_path / 'config.json')
    before = (tmp_path / 'config.json').read_text()
    images = shapes / 'images/val'
    for config, source, out, message in (
        (tmp_path / 'config.json', 'noise', tmp_path / 'config.png', 'config.json: this file is'),
        (SEGMENTATION, images / '000000.png', images / '000000.png', '000000.png: this file is'),
        (SEGMENTATION, images, images / 'new/erf.png', f'lies in {images}'),
    ):
        arguments = ('--images', source, '--out', out, *SMALL)
        assert message in tools.run('erf', config, *arguments).error_line()
    assert (tmp_path / 'config.json').read_text() == before
    assert not (images / 'new').exists() and not (tmp_path / 'config.png').exists()
