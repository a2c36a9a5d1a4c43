"""Check the data sets of a config."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..config.read import innermost_datasets, load_config, metrics_of, require
from ..config.run import check_run
from ..datasets.checks.classes import build_unloaded, class_problems, heads_of
from ..datasets.checks.coco import check_coco
from ..datasets.checks.coco_uses import is_coco
from ..datasets.checks.learning import NO_OBJECT, check_annotated, check_comparable
from ..datasets.checks.listed import check_listed
from ..datasets.checks.presence import check_data, missing_data
from ..datasets.checks.readable import reading_problem
from ..datasets.checks.report import ERROR, WARNING, BadData, Report, quantity
from ..datasets.checks.segmentation import check_segmentation
from ..datasets.checks.wrappers import wrapper_findings
from ..datasets.guards.annotations import evaluations
from ..engine.runner.runner import CheckedRunner
from ..errors import UserError
from ..utils.patches import quiet
from ..utils.translate import blame_run
from .browse import preprocessed

SPLITS = ('train', 'val', 'test')


def check_dataset(
    config: str,
    splits: Sequence[str] = SPLITS,
    everything: bool = False,
    options: Sequence[str] = (),
    data_root: str | None = None,
) -> None:
    """Check the data sets of a config and print the findings.

    Args (the others: see `weightformer_mm.apis`):
        splits: some of 'train', 'val' and 'test'; a split without a data loader is skipped.
        everything: read every image and label image instead of a sample of each data set.

    Raises:
        BadData: training would fail or go wrong; raised after everything is printed.
        UserError: the config is wrong, or none of the data is there.
    """
    cfg = load_config(config, options, data_root)
    splits = [split for split in splits if cfg.get(f'{split}_dataloader') is not None]
    if not splits:
        raise UserError(f'{cfg.filename} has no data loader for any of the splits')
    require(cfg, ('model',), 'the check of its classes')
    check_run(cfg, splits)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    missing = list(missing_data(cfg, splits))
    present = [split for split in splits if split not in dict(missing)]
    if not present:  # nothing to look at: say how to get it
        check_data(cfg, splits)
    files = {split: Report(f'{split}: files') for split in dict(missing)}
    for split, text in missing:
        files[split].error('layout', 'missing', text)
    model = MODELS.build(cfg.model)
    reports = [
        _heads(cfg, model, splits),
        *files.values(),
        *check_data_sets(cfg, present, everything),
    ]
    if not any(report.count(ERROR) for report in reports):
        reports += _loaders(cfg, model, splits)
    for report in reports:
        report.show()
        print()
    errors, warnings = (sum(r.count(level) for r in reports) for level in (ERROR, WARNING))
    print(f'summary: {quantity(errors, "error")}, {quantity(warnings, "warning")}', flush=True)
    if errors:
        raise BadData(f'{quantity(errors, "error")} in the data: a training would fail or go wrong')


def check_data_sets(cfg: Config, splits: Sequence[str], everything: bool) -> list[Report]:
    """What is found in the data sets of some splits, and in what wraps them; arguments: `check_dataset`."""
    reports = list(_wrappers(cfg, splits))
    reports += [_check(found, everything) for found in _distinct(cfg, splits)]
    trained = [report for report in reports if report.teaches is not None]
    if trained and not any(report.teaches or report.count(ERROR) for report in trained):
        trained[0].error('annotations', NO_OBJECT, 'in no data set')
    return reports


def _loaders(cfg: Config, model: nn.Module, splits: Sequence[str]) -> Iterator[Report]:
    """What a training or an evaluation would refuse before its model gets the first batch."""
    evaluators = {split: metrics_of(cfg.get(f'{split}_evaluator')) for split in splits}
    used = {repr((cfg[f'{s}_dataloader'], evaluators[s])): s for s in reversed(splits)}
    for split in used.values():
        loader = {**cfg[f'{split}_dataloader'], 'num_workers': 0, 'persistent_workers': False}
        loader.pop('prefetch_factor', None)
        report = Report(f'{split}: data loader')
        try:
            with quiet():
                built = CheckedRunner.build_dataloader(loader, seed=0)
                batch = next(preprocessed(cfg, built, model.data_preprocessor, split))
            if split == 'train':
                check_annotated(batch.get('data_samples'), model)
            else:
                check_comparable(batch.get('data_samples'), evaluators[split])
        except Exception as error:
            report.error('data loader', str(blame_run(error, f'{split}_dataloader')))
            yield report


def _heads(cfg: Config, model: nn.Module, splits: Sequence[str]) -> Report:
    report = Report(f'model: {cfg.filename}')
    report.looked('heads', len(list(heads_of(model))))
    for problem in class_problems(cfg, model, splits):
        report.error('heads', problem)
    return report


def _wrappers(cfg: Config, splits: Sequence[str]) -> Iterator[Report]:
    for split in splits:
        place = f'{split}_dataloader.dataset'
        found = list(wrapper_findings(cfg[f'{split}_dataloader'].get('dataset'), place))
        if found:
            report = Report(f'{split}: pipelines and wrappers')
            report.add(found)
            yield report


@dataclass
class _Found:
    """A data set of the config, which several places may name."""

    node: Any
    alone: bool  # in its loader
    evaluations: list[Any] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def _distinct(cfg: Config, splits: Sequence[str]) -> Iterable[_Found]:
    found: dict[str, _Found] = {}
    for split in splits:
        loader, evaluators = cfg[f'{split}_dataloader'], metrics_of(cfg.get(f'{split}_evaluator'))
        nodes = list(innermost_datasets(loader.get('dataset'), split))
        uses = evaluations(loader, evaluators)
        elsewhere = [use for each in uses.values() for use in each if use.others]
        for place, node in nodes:
            entry = found.setdefault(repr(node), _Found(node, len(nodes) == 1))
            entry.places.append(place)
            own = uses.get(
                os.path.realpath(getattr(build_unloaded(node), 'ann_file', '') or ''), ()
            )
            entry.evaluations += [*own, *elsewhere]
    return found.values()


def _check(found: _Found, everything: bool) -> Report:
    dataset = build_unloaded(found.node)
    kind = type(dataset)
    source = getattr(dataset, 'ann_file', '') or getattr(dataset, 'data_root', '')
    report = Report(f'{", ".join(found.places)}: {kind.__name__} {source}'.rstrip())
    try:
        if is_coco(dataset):
            check_coco(report, dataset, found.evaluations, everything, found.alone)
        elif hasattr(kind, 'get_label_map') and hasattr(dataset, 'seg_map_suffix'):
            check_segmentation(report, dataset, everything)
        else:
            check_listed(report, dataset, everything)
    except UserError:  # of the config, not of the data
        raise
    except Exception as error:
        problem = reading_problem(error, found.node)
        if problem is not None:
            report.error('list of images', ' '.join(problem.split()))
        else:
            split, dot, inside = found.places[0].partition('.')
            place = f'{split}_dataloader.dataset{dot}{inside}'
            report.error('pipeline', str(blame_run(error, place)))
    return report
