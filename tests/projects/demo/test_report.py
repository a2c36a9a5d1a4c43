"""The page of the demo: whole in itself, with the right values and curves."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from projects.demo.report import write_report
from projects.demo.tasks import TASKS, TaskFolder
from projects.runs import all_scalars

LINES = [
    {'loss': 2.0, 'step': 10},
    {'loss': 1.0, 'step': 20},
    {'coco/bbox_mAP': 0.25, 'mIoU': 25.0, 'step': 1},
    {'loss': 0.5, 'step': 30},
    {'coco/bbox_mAP': 0.75, 'mIoU': 75.0, 'step': 2},
]


def log(folder, name, lines):
    path = folder / name / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


@pytest.fixture
def page(tmp_path):
    sheet = tmp_path / 'sheet.png'
    Image.fromarray(np.zeros((40, 90, 3), np.uint8)).save(sheet)
    folders = []
    for task in TASKS:
        folder = TaskFolder(task, tmp_path / 'config.py', tmp_path / task.name, tmp_path)
        folder.results.mkdir(parents=True)
        results = {'coco/bbox_mAP': 0.7512, 'coco/segm_mAP': 0.6512, 'mIoU': 85.12}
        folder.metrics.write_text(json.dumps(results))
        folder.write_state(train_seconds=90.0)
        (folder.root / 'last_checkpoint').write_text('epoch_1.pth')
        Image.open(sheet).save(folder.sheet)
        log(folder.root, '20260101_000000', LINES)
        folders.append(folder)
    return write_report(folders, [sheet], tmp_path / 'report.html').read_text()


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_it_asks_nothing_of_anybody(page):
    """Every source is inside; names of XML's vocabularies are no addresses."""
    sources = [
        attributes[key]
        for tag, attributes in Elements(page).found
        for key in ('src', 'href', 'xlink:href', 'data', 'srcset')
        if key in attributes
    ]
    assert sources and all(source.startswith(('data:', '#')) for source in sources)
    assert not re.search(r'url\((?!#)|@import|<script', page)


def test_values_are_those_of_the_evaluators(page):
    rows = re.findall(
        r'<tr><th scope="row">(\w+)</th><td>(.*?)</td><td.*?>(.*?)</td><td.*?>(.*?)<', page
    )
    assert rows == [
        ('detection', 'box mAP', '0.751', '1.5 min'),
        ('detection', 'mask mAP', '0.651', '1.5 min'),
        ('segmentation', 'mIoU', '0.851', '1.5 min'),
    ]


def test_a_reader_without_eyes_finds_the_way(page):
    elements = Elements(page).found
    assert dict(elements)['html'] == {'lang': 'en'}
    headings = [int(tag[1]) for tag, _ in elements if re.fullmatch('h[1-6]', tag)]
    assert headings[0] == 1 and set(headings[1:]) == {2}
    assert all(attributes['alt'] for tag, attributes in elements if tag == 'img')
    assert all(a['role'] == 'img' and a['aria-label'] for tag, a in elements if tag == 'svg')
    names = [attributes['id'] for _, attributes in elements if 'id' in attributes]
    assert len(names) == len(set(names))


def test_curves_take_the_colour_of_the_text(page):
    assert page.count('<svg') == 2 and 'currentColor' in page and '#010203' not in page


def test_a_run_that_continued_another_has_one_curve(tmp_path):
    """The second began after epoch 1, from whose checkpoint it went on; the first had got farther."""
    log(tmp_path, '20260101_000000', LINES)
    log(tmp_path, '20260101_000100', [{'loss': 0.7, 'step': 30}, {'loss': 0.6, 'step': 40}])
    steps = [(line['step'], line['loss']) for line in all_scalars(tmp_path) if 'loss' in line]
    assert steps == [(10, 2.0), (20, 1.0), (30, 0.7), (40, 0.6)]
    assert [line['mIoU'] for line in all_scalars(tmp_path) if 'mIoU' in line] == [25.0]
