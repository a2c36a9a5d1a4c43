"""What the check of a data set says, and what a training does with it until its first iteration would begin.

Both run in this process, without a model: `checked` and `loaded` call what the tools call.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from weightformer_mm.apis.check_dataset import check_data_sets
from weightformer_mm.config.read import load_config, metrics_of, type_name
from weightformer_mm.datasets.checks.report import ERROR
from weightformer_mm.engine.runner.randomness import with_positions
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError

SPLITS = ('train', 'val')


def config_for(task: Path, root: Path) -> Config:
    """The config of a task on the set in ``root``, which loads in this process."""
    cfg = load_config(task, (), root)
    for split in SPLITS:
        cfg[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False)
    if cfg.default_scope == 'mmdet':
        cfg.val_evaluator.ann_file = f'{root}/annotations/instances_val.json'
    init_default_scope(cfg.default_scope)
    return cfg


def checked(cfg: Config, splits: Sequence[str] = SPLITS, level: str = ERROR) -> list[str]:
    """The errors, or other findings, of the check in a config's data."""
    try:
        reports = check_data_sets(cfg, splits, everything=True)
    except UserError as error:
        return [str(error)]
    return [': '.join(filter(None, found)) for report in reports for found in report.found(level)]


def loaded(cfg: Config, splits: Sequence[str] = SPLITS) -> str | None:
    """The line with which a training refuses a config's data; None if it has something to learn from.

    It loads every image, those of training as ``exact_resume`` does, and evaluates the truth as if a
    detector had found it.
    """
    try:
        for split in splits:
            loader = copy.deepcopy(cfg[f'{split}_dataloader'])
            loader = with_positions(loader) if split == 'train' else loader
            loader = CheckedRunner.build_dataloader(loader)
            indices = range(len(loader.dataset))  # a RepeatDataset would go on for ever
            samples = [loader.dataset[index]['data_samples'] for index in indices]
            if split == 'train':
                assert any(map(teaches, samples)), 'a training that learns nothing'
            elif cfg.default_scope == 'mmdet':
                evaluate(cfg, loader.dataset, samples)
    except UserError as error:
        assert '\n' not in str(error)
        return str(error)
    return None


def agree(cfg: Config, split: str) -> str:
    """Whether both refuse the data; which ones is an assertion."""
    errors, line = checked(cfg, (split,)), loaded(cfg, (split,))
    assert bool(errors) == bool(line), (errors, line)
    if not line:
        return 'learns'
    assert all('\n' not in error for error in errors)
    return 'refused'


def teaches(sample) -> bool:
    if 'gt_sem_seg' in sample:
        (labels,) = sample.gt_sem_seg.values()  # mmseg and mmdet name them differently
        return bool((labels != 255).any())
    return len(sample.gt_instances) > 0


def evaluate(cfg: Config, dataset, samples) -> None:
    runner = object.__new__(CheckedRunner)
    runner.cfg = cfg
    evaluator = CheckedRunner.build_evaluator(runner, copy.deepcopy(cfg.val_evaluator))
    evaluator.dataset_meta = dataset.metainfo
    if type_name(metrics_of(cfg.val_evaluator)[0]) == 'CocoPanopticMetric':
        evaluator.process([found_segments(sample, dataset) for sample in samples], None)
        assert evaluator.evaluate(len(samples))['coco_panoptic/PQ'] > 0, 'the truth scores nothing'
        return
    for sample in samples:
        truth = sample.gt_instances
        found = {
            'bboxes': truth.bboxes.tensor,
            'labels': truth.labels,
            'scores': torch.ones(len(truth)),
            'masks': torch.from_numpy(truth.masks.to_ndarray().astype(bool)),
        }
        result = {'img_id': sample.img_id, 'ori_shape': sample.ori_shape, 'pred_instances': found}
        evaluator.process([result], None)
    if any(len(sample.gt_instances) for sample in samples):
        assert evaluator.evaluate(len(samples))['coco/bbox_mAP'] > 0, 'the truth scores nothing'


def found_segments(sample, dataset) -> dict:
    """A sample of a panoptic data set with the truth as if it had been found."""
    labels = sample.gt_sem_seg.sem_seg.long().clone()
    labels[labels == 255] = len(dataset.metainfo['classes'])  # void
    for number, mask in enumerate(sample.gt_instances.masks.to_ndarray(), start=1):
        labels[:, mask.astype(bool)] += 1000 * number
    return {**sample.metainfo, 'pred_panoptic_seg': {'sem_seg': labels}}
