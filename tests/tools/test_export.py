"""``tools/export.py`` as a user runs it, on weights that ship."""

from __future__ import annotations

import json

import pytest

from tests.helpers.commands import ROOT

DETECTOR = 'mask-rcnn_pyramid-weightformer-micro_fpn_shapes'
SEGMENTOR = 'upernet_pyramid-weightformer-micro_shapes'
CONFIGS = ROOT / 'configs/shapes'
TRACED = ('--size', 96, 80)


@pytest.mark.parametrize('name', [DETECTOR, SEGMENTOR])
def test_a_file_has_the_metrics_of_its_model(name, tools, shapes, tmp_path):
    pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    pytest.importorskip('onnx', reason='needs onnx')
    out = tmp_path / 'new/model.onnx'
    arguments = ('--weights', name, '--out', out, *TRACED, '--with-preprocessing')
    log = tools.run('export', *arguments).ok()
    assert log.count('largest difference') == 5 and str(out) in log.splitlines()[-1]
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    found = []
    for model in (('--weights', name), (CONFIGS / f'{name}.py', out)):
        folder = tmp_path / str(len(found))
        outputs = ('--out', folder / 'out', '--show-dir', folder / 'show', '--work-dir', folder)
        tools.run('test', *model, '--data-root', shapes, *outputs).ok()
        found.append(json.loads((folder / 'out/metrics.json').read_text()))
        assert len(list((folder / 'show').iterdir())) == len(
            list((shapes / 'images/val').iterdir())
        )
    expected, metrics = found
    percent = 1 if name == DETECTOR else 100
    assert metrics == pytest.approx(expected, abs=2e-3 * percent)
    assert max(expected.values()) > 0.5 * percent


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
        (['--out', 'a.pt', '--format', 'torchscript', '--fp16'], '--fp16: needs --format onnx'),
        (['--out', 'a.onnx', '--fp16'], '--fp16: not for detectors'),
    ],
)
def test_bad_input(tools, arguments, message):
    before = sorted(tools.folder.iterdir())
    line = tools.run('export', '--weights', DETECTOR, *arguments).error_line()
    assert message in line
    assert sorted(tools.folder.iterdir()) == before
