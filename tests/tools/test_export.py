"""``tools/export.py`` as a user runs it, on weights that ship."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

DETECTOR = 'mask-rcnn_pyramid-weightformer-micro_fpn_shapes'
SEGMENTOR = 'upernet_pyramid-weightformer-micro_shapes'
TRACED = ('--size', 96, 80)


def mean_iou(labels: list[np.ndarray], truths: list[np.ndarray], classes: int) -> float:
    """In percent, as mmseg counts it: over the pixels of all images."""
    found, true = (np.concatenate([x.ravel() for x in part]) for part in (labels, truths))
    counts = np.bincount(true * classes + found, minlength=classes**2).reshape(classes, classes)
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    return 100 * float(np.mean(both[either > 0] / either[either > 0]))


def test_a_file_has_the_metric_of_its_model(tools, shapes, tmp_path):
    runtime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    pytest.importorskip('onnx', reason='needs onnx')
    out = tmp_path / 'new/model.onnx'
    arguments = ('--weights', SEGMENTOR, '--out', out, *TRACED, '--with-preprocessing')
    log = tools.run('export', *arguments).ok()
    assert log.count('largest difference') == 5 and str(out) in log.splitlines()[-1]
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    session = runtime.InferenceSession(str(out))
    images = [cv2.imread(str(path)) for path in sorted((shapes / 'images/val').iterdir())]
    (labels,) = session.run(None, {'image': np.stack(images)})
    paths = sorted((shapes / 'annotations/val').iterdir())
    truths = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(int) - 1 for path in paths]
    evaluated = (
        '--data-root',
        shapes,
        '--out',
        tmp_path / 'eager',
        '--work-dir',
        tmp_path / 'work',
    )
    tools.run('test', '--weights', SEGMENTOR, *evaluated).ok()
    expected = json.loads((tmp_path / 'eager/metrics.json').read_text())['mIoU']
    assert mean_iou(list(labels), truths, 7) == pytest.approx(expected, abs=0.2)
    assert expected > 50


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--out', 'a.onnx', '--size', 96, 80],
            '--size: the model takes multiples of 32 pixels',
        ),
        (['--out', 'a.txt'], '--out a.txt: a file of --format onnx ends in .onnx'),
        (['--out', 'a.onnx', '--dynamic', 'batch'], '--dynamic without size'),
        (['--out', 'a.onnx', '--dynamic'], '--dynamic without size'),
        (['--out', 'a.pt', '--format', 'torchscript', '--opset', 17], '--opset 17: expected'),
    ],
)
def test_bad_input(tools, arguments, message):
    before = sorted(tools.folder.iterdir())
    line = tools.run('export', '--weights', DETECTOR, *arguments).error_line()
    assert message in line
    assert sorted(tools.folder.iterdir()) == before
