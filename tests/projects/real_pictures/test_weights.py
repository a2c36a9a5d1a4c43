"""The weights that ship see in four real pictures what they saw when they were stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from projects.model_zoo.metafile import metafile_path, read
from projects.model_zoo.recipes import FAMILIES
from projects.real_pictures.campaign import read_records
from projects.real_pictures.plan import CONFIGS, METRICS, ROOT, Run, score
from tests.helpers.commands import Tools
from weightformer_mm.apis import inference, init_model

PICTURES = ROOT / 'tests/data/nuclei/val'
# what the functions below gave, by the name of the set
STORED = ROOT / 'tests/data/nuclei/seen.json'
NAMES = {data: Path(CONFIGS['micro'][data]).stem for data in METRICS}


def shares_of_classes() -> dict[str, list[float]]:
    """The share of each class of CamVid in each picture."""
    paths = sorted(PICTURES.glob('*.png'))
    labels = [
        sample.pred_sem_seg.data.numpy().ravel()
        for sample in inference(init_model(NAMES['camvid'], device='cpu'), paths)
    ]
    counts = (np.bincount(each, minlength=11) / len(each) for each in labels)
    return {path.stem: each.round(4).tolist() for path, each in zip(paths, counts)}


def test_classes_are_those_that_were_stored():
    """No street is in the pictures; the classes are the same all the same."""
    stored = json.loads(STORED.read_text())['camvid']
    found = shares_of_classes()
    assert found.keys() == stored.keys() and len(stored) == 4
    assert (np.max(list(stored.values()), axis=0) > 0.01).sum() > 8
    for name, shares in stored.items():
        assert sum(share > 0.01 for share in shares) > 1  # one class alone would prove little
        assert np.abs(np.subtract(found[name], shares)).max() < 0.005


def found_nuclei() -> dict[str, list[list[float]]]:
    """Box, score and area of the mask of each detection with a score of more than a half."""
    paths = sorted(PICTURES.glob('*.png'))
    found = {}
    for path, sample in zip(paths, inference(init_model(NAMES['nuclei'], device='cpu'), paths)):
        nuclei = sample.pred_instances[sample.pred_instances.scores > 0.5]
        areas = nuclei.masks.sum((1, 2)).float()
        rows = torch.cat([nuclei.bboxes, nuclei.scores[:, None], areas[:, None]], 1)
        found[path.stem] = [[round(value, 3) for value in row] for row in rows.tolist()]
    return found


@pytest.fixture(scope='module')
def nuclei() -> dict[str, torch.Tensor]:
    return {name: torch.tensor(rows) for name, rows in found_nuclei().items()}


def test_nuclei_are_those_that_were_stored(nuclei):
    stored = json.loads(STORED.read_text())['nuclei']
    assert nuclei.keys() == stored.keys() and len(stored) == 4
    for name, rows in stored.items():
        for one, other in ((torch.tensor(rows), nuclei[name]), (nuclei[name], torch.tensor(rows))):
            sure = one[one[:, 4] > 0.55]  # those near a half may be on one side only
            overlaps, nearest = box_iou(sure[:, :4], other[:, :4]).max(1)
            assert len(sure) > 5 and overlaps.min() > 0.95
            matched = other[nearest]
            assert (sure[:, 4] - matched[:, 4]).abs().max() < 0.01
            assert ((sure[:, 5] - matched[:, 5]).abs() < 2 + 0.05 * sure[:, 5]).all()


def test_most_annotated_nuclei_are_found(nuclei):
    truth = json.loads((PICTURES.parent / 'val.json').read_text())
    overlaps = []
    for image in truth['images']:
        boxes = [a['bbox'] for a in truth['annotations'] if a['image_id'] == image['id']]
        x, y, width, height = torch.tensor(boxes).T
        boxes = torch.stack([x, y, x + width, y + height], 1)
        found = nuclei[Path(image['file_name']).stem]
        overlaps.append(box_iou(boxes, found[:, :4]).amax(1))
    overlaps = torch.cat(overlaps)
    assert len(overlaps) > 100
    assert (overlaps > 0.5).float().mean() > 0.7


def test_the_evaluator_takes_them(tmp_path):
    """A file of weights alone, for a recipe that averages its weights."""
    tools = Tools(tmp_path)
    loader = ('test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False')
    data = ('--data-root', f'{PICTURES.parent}/', '--cfg-options', *loader)
    # the recipe's test part is not there
    part = (
        'test_dataloader.dataset.ann_file=val.json',
        'test_dataloader.dataset.data_prefix.img=val/',
        f'test_evaluator.ann_file={PICTURES.parent}/val.json',
    )
    tools.run('test', '--weights', NAMES['nuclei'], '--out', 'out', *data, *part).ok()
    metrics = json.loads((tmp_path / 'out/metrics.json').read_text())
    assert metrics['coco/segm_mAP_50'] > 0.7


@pytest.mark.parametrize('data', METRICS)
def test_the_metafile_has_what_was_recorded(data):
    record = read_records().get(Run(data, protocol='micro').name)
    family = next(family for family in FAMILIES if family.folder == data)
    models = {model['Name']: model for model in read(ROOT / metafile_path(family))['Models']}
    results = models[NAMES[data]]['Results']
    if record is None:
        assert results == []
        return
    metrics = {k: v for result in results for k, v in result['Metrics'].items()}
    name = {'camvid': 'mIoU', 'nuclei': 'mask AP'}[data]
    assert metrics[name] == round(100 * score(record), 1)
    if data == 'camvid':
        assert metrics['mIoU (ms+flip)'] == round(record['tta_metrics']['mIoU'], 1)
