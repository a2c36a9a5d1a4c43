"""The sheet shows the images as they are fed."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from tqdm import tqdm

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from weightformer_mm.apis.browse import _visible, browse
from weightformer_mm.config.read import load_config
from weightformer_mm.errors import UserError

BRANCHES = ('sup', 'unsup_teacher', 'unsup_student')
TASKS = [(DETECTION, 'shapes'), (SEGMENTATION, 'shapes'), (CLASSIFICATION, 'single_shapes')]


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(('config', 'data'), TASKS)
def test_each_task(config, data, split, request, tmp_path):
    root = request.getfixturevalue(data)
    sheets = [
        browse(config, str(tmp_path / name), split, 3, seed, data_root=str(root))
        for name, seed in (('a.png', 0), ('b.png', 0), ('c.png', 1))
    ]
    first, same, other = (cv2.imread(str(sheet)) for sheet in sheets)
    assert first.std() > 10
    assert np.array_equal(first, same)
    if split == 'train':
        assert first.shape != other.shape or not np.array_equal(first, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'b.png', 'c.png']


def test_number_of_images_without_a_progress_bar(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('weightformer_mm.apis.browse.tqdm', partial(tqdm, disable=True))
    browse(DETECTION, str(tmp_path / 'a.png'), 'train', 2, data_root=str(shapes))
    assert '2 images of the train split' in capsys.readouterr().out


@pytest.mark.parametrize('config', [config for config, _ in TASKS])
def test_normalisation_is_undone(config):
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    bgr = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    if cfg.default_scope == 'mmpretrain':
        values = preprocessor({'inputs': bgr[None]})['inputs'][0]
    else:
        samples = [MODELS_SAMPLES[cfg.default_scope]()]
        values = preprocessor({'inputs': [bgr], 'data_samples': samples}, False)['inputs'][0]
    assert np.array_equal(_visible(values, preprocessor), bgr.flip(0).permute(1, 2, 0).numpy())


def det_sample():
    from mmdet.structures import DetDataSample

    return DetDataSample(metainfo={'img_shape': (32, 32)})


def seg_sample():
    from mmseg.structures import SegDataSample

    return SegDataSample(metainfo={'img_shape': (32, 32)})


MODELS_SAMPLES = {'mmdet': det_sample, 'mmseg': seg_sample}


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (dict(out='sheet.gif'), 'a picture ends in .png'),
        (dict(out='sheet.png', number=0), 'at least one image'),
        (dict(out='sheet.png', data_root='none'), 'none not found'),
    ],
)
def test_bad_input(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=expected):
        browse(DETECTION, **arguments)
    assert not list(tmp_path.iterdir())


def test_no_sheet_among_the_images(shapes, tmp_path):
    (tmp_path / 'link').symlink_to(shapes / 'images')
    before = sorted(shapes.rglob('*'))
    for out in (shapes / 'images/train/000000.png', tmp_path / 'link/train/new/sheet.png'):
        with pytest.raises(UserError, match=f'--out {out.parent}: lies in {shapes}/images/train'):
            browse(SEGMENTATION, str(out), data_root=str(shapes))
    assert sorted(shapes.rglob('*')) == before


def detection(root, tmp_path, change) -> str:
    """The path of the detection config after ``change``."""
    cfg = load_config(DETECTION, (), root)
    change(cfg)
    cfg.dump(tmp_path / 'config.py')
    return str(tmp_path / 'config.py')


def test_each_branch_of_a_semi_supervised_model(shapes, tmp_path):
    def change(cfg):
        one = cfg.train_dataloader.dataset
        pack = {'type': 'PackDetInputs'}
        load = {'type': 'LoadImageFromFile'}
        labelled = [*one.pipeline[:2], {'type': 'MultiBranch', 'branch_field': [*BRANCHES]}]
        labelled[-1]['sup'] = pack
        branches = {'unsup_teacher': [pack], 'unsup_student': [pack]}
        unlabelled = [load, {'type': 'LoadEmptyAnnotations', 'with_mask': True}]
        unlabelled.append({'type': 'MultiBranch', 'branch_field': [*BRANCHES], **branches})
        sets = [dict(one, pipeline=labelled), dict(one, pipeline=unlabelled)]
        sampler = {'type': 'MultiSourceSampler', 'batch_size': 2, 'source_ratio': [1, 1]}
        cfg.train_dataloader.update(
            batch_size=2,
            sampler=sampler,
            batch_sampler=None,
            collate_fn={'type': 'pseudo_collate'},
        )
        cfg.train_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': sets}
        preprocessor = dict(cfg.model.data_preprocessor)
        multi = {'type': 'MultiBranchDataPreprocessor', 'data_preprocessor': preprocessor}
        cfg.model = {
            '_scope_': 'mmdet',
            'type': 'SoftTeacher',
            'detector': cfg.model,
            'data_preprocessor': multi,
            'semi_train_cfg': {'freeze_teacher': True},
            'semi_test_cfg': {'predict_on': 'teacher'},
        }

    captions = []
    config = detection(shapes, tmp_path, change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'weightformer_mm.apis.browse.write_contact_sheet',
            lambda groups, names, *rest: captions.extend(names),
        )
        browse(config, str(tmp_path / 'a.png'), number=3)
    assert [caption.partition(': ')[0] for caption in captions] == list(BRANCHES)


def test_batches_that_are_resized_together(shapes, tmp_path):
    def change(cfg):
        resize = {'type': 'BatchSyncRandomResize', 'random_size_range': (64, 160), 'interval': 1}
        cfg.model.data_preprocessor.batch_augments = [resize]
        cfg.train_dataloader.dataset.pipeline[1].with_mask = False  # it resizes none

    assert browse(detection(shapes, tmp_path, change), str(tmp_path / 'a.png'), number=8).is_file()
