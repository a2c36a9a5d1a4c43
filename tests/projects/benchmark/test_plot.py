from __future__ import annotations

import pytest

from projects.benchmark.plot import fitted_slope, lines_of, plot_results
from projects.benchmark.results import Results, read_rows
from weightformer_mm.errors import UserError

SIZES = [(64, 64), (512, 512), (800, 1280), (2048, 2048)]


def row(contender, height, width, exponent, **changes):
    """Milliseconds grow with the exponent from 512² pixels on, and are constant below."""
    pixels = height * width
    cells = dict(
        device='cpu',
        threads=1,
        dtype='float32',
        contender=contender,
        mode='train',
        batch=2,
        height=height,
        width=width,
        median_ms=2 * max(pixels / 512**2, 1) ** exponent,
        peak_mib=pixels / 1e3,
    )
    return {**cells, **changes}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'results.csv'
    rows = [row('linear', *size, 1.0) for size in SIZES]
    rows += [row('quadratic', *size, 2.0) for size in SIZES]
    rows.append(row('quadratic', 4096, 4096, 2.0, median_ms=None, note='out of memory'))
    Results(path).add(rows)
    return path


def test_slopes_are_those_of_the_rows(file):
    lines = lines_of(read_rows(file), 'train', 'time')
    assert fitted_slope(lines['linear'], 512**2) == pytest.approx(1, abs=1e-4)
    assert fitted_slope(lines['quadratic'], 512**2) == pytest.approx(2, abs=1e-4)
    assert fitted_slope(lines['quadratic'], 0) < 1.8
    assert fitted_slope(lines['linear'], 2048**2) is None


def test_values_are_per_image_and_the_last_row_counts(file):
    Results(file).add([row('linear', 64, 64, 1.0, median_ms=8.0)])
    rows = read_rows(file)
    assert lines_of(rows, 'train', 'time')['linear'][0] == (64 * 64, 4.0)
    assert lines_of(rows, 'train', 'memory')['linear'][1] == (512**2, pytest.approx(131.072))
    assert lines_of(rows, 'inference', 'time') == {}


def test_legend_names_contenders_and_slopes(file, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure,
        'savefig',
        lambda self, *args, **kwargs: figures.append(self) or save(self, *args, **kwargs),
    )
    out = tmp_path / 'new' / 'plot.png'
    plot_results([str(file)], str(out))
    assert out.read_bytes().startswith(b'\x89PNG')
    (figure,) = figures
    time, memory = figure.axes
    labels = [text.get_text() for text in time.get_legend().get_texts()]
    assert labels == ['linear  (slope 1.00)', 'quadratic  (slope 2.00)']
    assert time.get_xscale() == time.get_yscale() == memory.get_yscale() == 'log'


def test_where_chooses_rows_that_belong_together(file, tmp_path):
    Results(file).add([row('linear', 512, 512, 1.0, dtype='bfloat16')])
    with pytest.raises(UserError, match="--where 'dtype=bfloat16'"):
        plot_results([str(file)], str(tmp_path / 'a.png'))
    assert not (tmp_path / 'a.png').exists()
    plot_results([str(file)], str(tmp_path / 'a.png'), where=['dtype=float32'])
    assert (tmp_path / 'a.png').exists()


@pytest.mark.parametrize(
    ('where', 'expected'),
    [(['dtype'], 'COLUMN=VALUE'), (['type=x'], 'COLUMN=VALUE'), (['mode=x'], 'no row')],
)
def test_wrong_conditions(file, tmp_path, where, expected):
    with pytest.raises(UserError, match=expected):
        plot_results([str(file)], str(tmp_path / 'a.png'), where=where)
