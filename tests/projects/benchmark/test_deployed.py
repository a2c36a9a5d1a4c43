"""The table of exported files, of weights that ship, on few small images."""

from __future__ import annotations

import pytest

from weightformer_mm.errors import UserError

pytest.importorskip('onnxruntime', reason='needs onnxruntime')
onnx = pytest.importorskip('onnx', reason='needs onnx')

from projects.benchmark import deployed  # noqa: E402

RECIPE = 'upernet_pyramid-weightformer-micro_shapes'


def cells(path) -> dict[str, list[str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith(f'| {RECIPE}')]
    rows = [[cell.strip() for cell in line.split('|')[2:-1]] for line in lines]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.timeout(600)
def test_forms_keep_the_metric_and_shrink(shapes, tmp_path, monkeypatch):
    forms = deployed._forms

    def with_a_failure(*arguments):
        def fail():
            raise UserError('not for this')

        return {**forms(*arguments), 'another': fail}

    monkeypatch.setattr(deployed, '_forms', with_a_failure)
    monkeypatch.setattr(deployed, '_COMPILE', {'backend': 'eager'})  # Inductor takes minutes
    method = deployed.Method(rounds=1, images=1, calibration=2, data_root=str(shapes), split='val')
    out = tmp_path / 'new/deployed.md'
    deployed.run_deployed([RECIPE], method, str(out))
    rows = cells(out)
    assert list(rows) == [
        *('model', 'model, compiled', 'ONNX', 'ONNX, float16', 'ONNX, int8', 'another')
    ]
    assert rows.pop('another') == ['', 'not for this', '', '']
    metrics = {name: float(row[1]) for name, row in rows.items()}
    assert metrics['model, compiled'] == metrics['model']
    assert metrics['ONNX'] == pytest.approx(metrics['model'], abs=0.2)
    assert metrics['ONNX, float16'] == pytest.approx(metrics['model'], abs=0.5)
    sizes = [float(rows[name][0]) for name in ('ONNX', 'ONNX, float16', 'ONNX, int8')]
    assert sizes == sorted(sizes, reverse=True)
    assert all(float(row[3]) > 0 for row in rows.values())


def test_bad_input(tmp_path):
    with pytest.raises(UserError, match='nothing: no recipe with weights'):
        deployed.run_deployed(['nothing'], deployed.Method(), str(tmp_path / 'a.md'))
    nowhere = deployed.Method(data_root=str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match='nowhere'):
        deployed.run_deployed([RECIPE], nowhere, str(tmp_path / 'a.md'))
    with pytest.raises(UserError, match='expected a name that ends in .md'):
        deployed.run_deployed([RECIPE], deployed.Method(), str(tmp_path / 'a.csv'))
