"""The page says what the records say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from projects.real_pictures.campaign import RESULTS, read_records
from projects.real_pictures.networks import PEERS, STRATEGIES
from projects.real_pictures.plan import METRICS, SEEDS, Run, all_runs
from projects.real_pictures.report import PAGE, PLOT, TABLES, compared, write_report

ROOT = Path(__file__).resolve().parents[3]
SCALE = {'camvid': 100.0, 'nuclei': 1.0}


def record(run: Run, score: float) -> dict:
    metrics = {METRICS[run.data]: score * SCALE[run.data]}
    if run.data == 'camvid':
        metrics.update({'IoU.sky': 90.0 + score, 'IoU.car': 80.0})
    else:
        metrics.update({'coco/segm_mAP_50': score + 0.2})
    costs = dict.fromkeys(('parameters', 'multiply_adds'), 2_000_000_000)
    backbone = {'backbone_parameters': 2_180_000, 'backbone_multiply_adds': 1_220_000_000}
    time = {'seconds': 700.0, 'cpu_seconds': 600.0}
    return dict(
        vars(run),
        metrics=metrics,
        tta_metrics=metrics,
        shape='8x9',
        epochs=3,
        **costs,
        **backbone,
        **time,
    )


@pytest.fixture
def records():
    """Every run; the second rate is the best of each network, and each seed brings a hundredth."""
    scores = {run.name: 0.7 if run.rate == 2 else 0.5 for run in all_runs({})}
    raw = {name: score * SCALE[name.partition('/')[0]] for name, score in scores.items()}
    return {
        run.name: record(run, scores.get(run.name, 0.7) + run.seed / 100) for run in all_runs(raw)
    }


def rows(name, records):
    lines = TABLES[name](records).splitlines()
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if '---' not in line]


def test_networks_are_shown_at_their_best_learning_rate(records):
    head, *table = rows('networks', records)
    assert [row[0] for row in table] == list(SEEDS)
    for row in table:
        seeds = SEEDS[row[0]]
        spread = (
            f'{0.70 + (seeds - 1) / 200:.3f} (0.700 to {0.69 + seeds / 100:.3f}, {seeds} seeds)'
        )
        assert dict(zip(head, row)) == {
            'network': row[0],
            'parameters': '2.18 M',
            'multiply-adds at 360x480': '1.22 G',
            'at 256x256': '1.22 G',
            'CamVid, mIoU': spread,
            'nuclei, mask AP': spread,
            'camvid, CPU time of a training': '10 min',
            'nuclei, CPU time of a training': '10 min',
        }


def test_strategies_classes_rates_and_recipe(records):
    assert rows('strategies', records)[1:] == [[name, '0.700', '0.700'] for name in STRATEGIES]
    head, sky, car = rows('classes', records)
    assert head == ['class', *SEEDS] and car == ['car', *['0.800'] * len(SEEDS)]
    assert rows('rates', records)[1] == ['static', *['0.500', '0.500', '0.700'] * 2]
    recipe, *changes = rows('recipe', records)[1:]
    assert recipe == ['the recipe', '0.500', '0.500']
    assert ['mosaic', '', '0.500 (+0.000)'] in changes and ['ohem', '0.500 (+0.000)', ''] in changes


def test_what_has_no_record_stays_empty(records):
    del records[Run('camvid', 'swin', 0.5).name]
    assert compared(records, 'camvid', 'swin') == []
    swin = next(row for row in rows('networks', records) if row[0] == 'swin')
    assert swin[4] == '' and swin[5] != ''
    for name in TABLES.keys() - {'plot'}:
        assert rows(name, {})
    assert TABLES['plot']({}) == ''


def test_whole_recipes_have_both_results(records):
    table = rows('whole', records)[1:]
    assert [row[0] for row in table] == ['CamVid: pyramid micro, 8x9', 'nuclei: pyramid micro, 8x9']
    assert [row[-1] for row in table] == ['mIoU 0.500', 'mask AP 0.500, AP50 0.700']


def test_the_page_and_the_plot_are_written(records, tmp_path):
    for path in (PAGE, PLOT):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / PAGE, tmp_path / PAGE)
    write_report(tmp_path, records)
    text = (tmp_path / PAGE).read_text()
    assert all(make(records) in text for make in TABLES.values())
    assert (tmp_path / PLOT).read_bytes()[:4] == b'\x89PNG'


def test_the_page_of_the_repository_is_up_to_date(tmp_path):
    text, records = (ROOT / PAGE).read_text(), read_records()
    assert all(make(records) in text for make in TABLES.values())


@pytest.mark.parametrize('name', read_records(), ids=str)
def test_a_record_says_how_it_was_made(name):
    record = read_records(RESULTS)[name]
    run = Run(**{field: record[field] for field in Run.__dataclass_fields__})
    assert run.name == name and (ROOT / record['config']).is_file()
    assert record['commits'] and not any(commit.endswith('-dirty') for commit in record['commits'])
    assert record['cpu_seconds'] > 0 and record['metrics'][METRICS[run.data]] is not None


@pytest.mark.parametrize('data', METRICS)
def test_recorded_peers_cost_the_same(data):
    records = read_records().values()
    costs = {r['network']: r for r in records if r['data'] == data and r['protocol'] == 'short'}
    for peer in PEERS.keys() & costs.keys():
        for cost in ('backbone_parameters', 'backbone_multiply_adds'):
            assert 0.9 <= costs[peer][cost] / costs['published'][cost] <= 1.1
