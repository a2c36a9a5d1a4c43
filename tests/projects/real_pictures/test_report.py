"""The page says what the records say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from projects.real_pictures.campaign import read_records
from projects.real_pictures.networks import MAIN, PEERS, STRATEGIES
from projects.real_pictures.plan import COMPARED, METRICS, RATES, Run, all_runs
from projects.real_pictures.report import PAGE, PLOT, TABLES, compared, write_report

ROOT = Path(__file__).resolve().parents[3]
SCALE = {'camvid': 100.0, 'nuclei': 1.0}
SIZES = {'camvid': '360x480', 'nuclei': '256x256'}
COST = {'backbone_parameters': 2_000_000, 'backbone_multiply_adds': {'360x480': 2_000_000_000}}


def record(run: Run, value: float) -> dict:
    metrics = {METRICS[run.data]: value * SCALE[run.data]}
    if run.data == 'camvid':
        metrics.update({'IoU.sky': 90.0 + value, 'IoU.car': 80.0})
    else:
        metrics.update({'coco/segm_mAP_50': value + 0.2})
    costs = {'multiply_adds': {SIZES[run.data]: 2_000_000_000}, 'parameters': 2_000_000}
    costs.update({f'backbone_{name}': cost for name, cost in costs.items()})
    time = {'seconds': 700.0, 'cpu_seconds': 600.0}
    explained = {
        'by_size': {SIZES[run.data]: value},
        'receptive_field': {'beyond 50%': 0.1 + run.seed / 100},
        'variation': {'linear': 0.2, 'convolution': 0.3},
        'frozen': 0.4,
    }
    own = {'explained': explained} if run.network in MAIN else {}
    return {
        **vars(run),
        'metrics': metrics,
        'tta_metrics': metrics,
        'epochs': 3,
        **costs,
        **time,
        **own,
    }


@pytest.fixture
def records():
    """Every run; the highest rate is the best of each network, and each seed brings a hundredth."""
    scores = {run.name: 0.7 if run.rate == RATES[-1] else 0.5 for run in all_runs({})}
    return {
        run.name: record(run, scores.get(run.name, 0.7) + run.seed / 100)
        for run in all_runs(scores)
    }


def rows(name, records):
    lines = TABLES[name](records).splitlines()
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if '---' not in line]


def test_networks_are_shown_at_their_best_learning_rate(records):
    head, *table = rows('networks', records)
    assert [row[0] for row in table] == list(COMPARED)
    for row in table:
        assert dict(zip(head, row)) == {
            'network': row[0],
            'parameters': '2.00 M',
            'multiply-adds': '2.00 G at 360x480, 2.00 G at 256x256',
            'learning rate': 'camvid x2.5, nuclei x2.5',
            'CamVid, mIoU': '0.710 (0.700 to 0.720, 3 seeds)',
            'nuclei, mask AP': '0.710 (0.700 to 0.720, 3 seeds)',
            'camvid, CPU time of a training': '10 min',
            'nuclei, CPU time of a training': '10 min',
        }


def test_a_network_that_diverged_once_stays_in_the_tables(records):
    run = Run('camvid', 'swin', RATES[-1], seed=2)
    records[run.name] = {**vars(run), 'metrics': {}, 'diverged': 'loss is nan', **COST}
    swin = dict(zip(rows('networks', records)[0], rows('networks', records)[4]))
    assert swin['CamVid, mIoU'] == f'{(0.7 + 0.71) / 3:.3f} (0.000 to 0.710, 3 seeds)'
    assert swin['camvid, CPU time of a training'] == '10 min'
    assert rows('classes', records)[2][4] == '0.800'


def test_strategies_classes_rates_and_recipe(records):
    assert rows('strategies', records)[1:] == [[name, '0.700', '0.700'] for name in STRATEGIES]
    head, sky, car = rows('classes', records)
    assert head == ['class', *COMPARED] and car == ['car', *['0.800'] * len(COMPARED)]
    assert rows('rates', records)[1] == ['static', *['0.500', '0.500', '0.700'] * 2]
    recipe, *changes = rows('recipe', records)[1:]
    assert recipe == ['the recipe', '0.500', '0.500']
    assert ['copy-paste', '', '0.500 (+0.000)'] in changes
    assert ['ohem', '0.500 (+0.000)', ''] in changes


def test_what_explains_the_scores(records):
    head, *table = rows('sizes', records)
    assert head[1:] == ['CamVid, mIoU, 360x480', 'nuclei, mask AP, 256x256']
    assert [row[0] for row in table] == list(MAIN)
    assert {cell for row in table for cell in row[1:]} == {'0.710 (0.700 to 0.720)'}
    table = {row[0]: row[1:] for row in rows('context', records)[1:]}
    assert table['static: energy beyond 50% of the sides'] == ['0.110 (0.100 to 0.120)'] * 2
    assert table['published: variation of linear parameters'][0].startswith('0.200')
    assert table['published: score'] == ['0.710 (0.700 to 0.720)'] * 2
    assert table['published: score, parameters frozen'][0].startswith('0.400')


def test_what_has_no_record_stays_empty(records):
    del records[Run('camvid', 'swin', RATES[0]).name]
    assert compared(records, 'camvid', 'swin') == []
    swin = next(row for row in rows('networks', records) if row[0] == 'swin')
    assert swin[4] == '' and swin[5] != ''
    for name in TABLES.keys() - {'plot'}:
        assert rows(name, {})
    assert TABLES['plot']({}) == ''


def test_whole_recipes_have_both_results(records):
    table = rows('whole', records)[1:]
    assert [row[0] for row in table] == ['CamVid: pyramid micro', 'nuclei: pyramid micro']
    assert [row[2] for row in table] == ['2.00 G at 360x480', '2.00 G at 256x256']
    assert [row[-1] for row in table] == ['mIoU 0.500', 'mask AP 0.500, AP50 0.700']


def test_the_page_and_the_plot_are_written(records, tmp_path):
    for path in (PAGE, PLOT):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / PAGE, tmp_path / PAGE)
    write_report(tmp_path, records)
    text = (tmp_path / PAGE).read_text()
    assert all(make(records) in text for make in TABLES.values())
    assert (tmp_path / PLOT).read_bytes()[:4] == b'\x89PNG'


def test_the_page_of_the_repository_is_up_to_date():
    text, records = (ROOT / PAGE).read_text(), read_records()
    for name, make in TABLES.items():
        shown = text.partition(f'<!-- table: {name} -->\n\n')[2].partition('\n<!-- end -->')[0]
        assert shown == make(records), name


def test_records_say_how_they_were_made():
    for name, record in read_records().items():
        run = Run(**{field: record[field] for field in Run.__dataclass_fields__})
        assert run.name == name and (ROOT / record['config']).is_file()
        assert record['commits'] and not any(each.endswith('-dirty') for each in record['commits'])
        assert record.get('diverged') or record['cpu_seconds'] > 0


@pytest.mark.parametrize('data', METRICS)
def test_recorded_peers_cost_the_same(data):
    records = read_records()
    own = records.get(Run(data).name)
    for record in records.values():
        if own and record['data'] == data and record['network'] in PEERS:
            assert 0.9 <= record['backbone_parameters'] / own['backbone_parameters'] <= 1.1
            for shape, count in record['backbone_multiply_adds'].items():
                assert 0.9 <= count / own['backbone_multiply_adds'][shape] <= 1.1
