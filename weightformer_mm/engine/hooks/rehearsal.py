"""One batch of training and one of evaluation before the first iteration, whose traces are removed."""

from __future__ import annotations

import copy
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.dataset import Compose, DefaultSampler, InfiniteSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, ReduceOnPlateauParamScheduler
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader

from ...checkpoints.match import unwrapped
from ...config.read import as_list, metrics_of
from ...datasets.checks.classes import heads_of
from ...datasets.checks.learning import check_annotated, check_comparable
from ...datasets.guards.annotations import check_numbers
from ...datasets.guards.loading import named_loading
from ...errors import UserError
from ...utils.patches import quiet, replaced
from ...utils.translate import UNPACKED, blame_run
from ...utils.writing import make_folder
from ..runner.randomness import seeded

_TRAINED = 2  # images of the batch that is trained with
_LOOKED_AT = 16  # images among which those of other sizes are looked for
# metrics that a part of a data set is enough for, by the names of their classes
_OF_ANY_PART = ('Accuracy', 'CocoMetric', 'IoUMetric', 'SingleLabelMetric')
_OF_PROPOSALS = ('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')
_OF_SEGMENTS = tuple(f'{item}{of}' for of in ('', '_th', '_st') for item in ('PQ', 'SQ', 'RQ'))
_OF_BOXES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


class RehearsalHook(Hook):
    """Refuse what would fail in the first iteration, or hours later in the first evaluation.

    A model's parts must fit each other, the images and the labels, and no library checks this before it
    computes. Random numbers, running statistics and results are put back, so the run is as it would be
    without. A training of a compiled or sharded model, or of one with its own step, is not rehearsed.

    Attributes:
        has_begun: whether an iteration has ended; until then an error is the fault of the config.
    """

    priority = 'LOW'
    has_begun = False

    def before_train(self, runner: Any) -> None:
        model = unwrapped(runner.model)
        _check_numbers(runner, model, runner.train_loop, runner.val_loop)
        with _undone(model):
            _build_switched(runner)
        is_sharded = isinstance(runner.model, FullyShardedDataParallel)
        if is_sharded or runner.cfg.get('compile') or not isinstance(model, BaseModel):
            return
        with _undone(model), quiet():  # nobody should take its tables for results
            if type(model).train_step is BaseModel.train_step:
                _train(runner, model)
                _clip(runner.optim_wrapper)
            names = None if runner.val_loop is None else _evaluate(runner, runner.val_loop, 'val')
        _check_watched(runner, names)
        _check_rules(runner, names)
        _step_schedules(runner)

    def before_test(self, runner: Any) -> None:
        _check_numbers(runner, runner.model, runner.test_loop)
        with _undone(runner.model), quiet():
            _evaluate(runner, runner.test_loop, 'test')

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self.has_begun = True

    def after_test_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self.has_begun = True


def _check_numbers(runner: Any, model: nn.Module, *loops: Any) -> None:
    """Refuse classes that no data set has, if heads read them: one that learns by itself ignores them."""
    if runner.cfg.get('check_classes', True) and any(heads_of(model)):
        for loop in filter(None, loops):
            check_numbers(loop.dataloader.dataset)


def _build_switched(runner: Any) -> None:
    """Build the pipelines that a training changes to, and let each make a sample."""
    for hook in runner.hooks:
        if type(hook).__name__ != 'PipelineSwitchHook':  # of mmdet
            continue
        dataset = runner.train_dataloader.dataset
        dataset = getattr(dataset, 'inside', dataset)
        with _named('custom_hooks'):
            if not hasattr(vars(dataset).get('pipeline'), 'transforms'):
                raise UserError(
                    'config: custom_hooks: PipelineSwitchHook cannot change the pipelines inside of '
                    f'{type(dataset).__name__}; use it with one data set alone'
                )
            transforms = Compose(hook.switch_pipeline).transforms
            hook.switch_pipeline = named_loading(transforms, dataset)
            data = _twin(dataset)
            data.pipeline = Compose(copy.deepcopy(hook.switch_pipeline))
            _packed(data[0], 'train')


def _train(runner: Any, model: nn.Module) -> None:
    loader = runner.train_dataloader
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    sampler = getattr(sampler, 'inside', sampler)
    if type(sampler) not in (DefaultSampler, InfiniteSampler):  # it decides what fits into a batch
        return
    data = _twin(loader.dataset)
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)
    count = min(_TRAINED, size, len(data))
    wrapper = runner.optim_wrapper
    context = wrapper.optim_context(model) if type(wrapper) is OptimWrapper else nullcontext()
    with _named('train_dataloader'):
        batch = loader.collate_fn([_packed(data[index], 'train') for index in range(count)])
        check_annotated(batch.get('data_samples'), model)
    model.train()
    with _named('model', model), torch.no_grad(), context:
        losses = model._run_forward(model.data_preprocessor(batch, True), mode='loss')
        model.parse_losses(losses)


def _clip(wrapper: Any) -> None:
    """Clip a gradient, which is else done after ``accumulative_counts`` iterations."""
    options = getattr(wrapper, 'clip_grad_kwargs', None)
    if options:
        weight = nn.Parameter(torch.zeros(1))
        weight.grad = torch.zeros(1)
        with _named('optim_wrapper.clip_grad'):
            wrapper.clip_func([weight], **options)


def _packed(sample: Any, split: str) -> Any:
    """A sample of a data set; UserError if its pipeline ends before it makes what a model takes."""
    if isinstance(sample, dict) and 'img_path' in sample and 'inputs' not in sample:
        raise UserError(f'config: {split}_dataloader: {UNPACKED}')
    return sample


def _step_schedules(runner: Any) -> None:
    """Let each schedule take its first steps and its last one, and put everything back."""
    schedules = runner.param_schedulers
    several = isinstance(runner.cfg.get('param_scheduler'), (list, tuple))
    for number, schedule in enumerate(schedules if isinstance(schedules, list) else ()):
        groups = schedule.optimizer.param_groups
        own = {name: value for name, value in vars(schedule).items() if name != 'optimizer'}
        kept, values = copy.deepcopy(own), [dict(group) for group in groups]
        given = [{schedule.monitor: 0.0}] if hasattr(schedule, 'monitor') else []
        try:
            with _named(f'param_scheduler.{number}' if several else 'param_scheduler'), quiet():
                schedule._global_step = max(schedule.begin, schedule._global_step)
                for _ in range(2):
                    schedule.step(*given)
                last = min(_steps(runner, schedule), schedule.end - 1)
                if last > schedule.begin:
                    schedule._global_step, schedule.last_step = last - 1, last - schedule.begin - 1
                    schedule.step(*given)
        finally:
            vars(schedule).update(kept)
            for group, before in zip(groups, values):
                group.update(before)


def _steps(runner: Any, schedule: Any) -> int:
    """How often a schedule is stepped in the whole run; 0 if its loop does not say."""
    return getattr(runner.train_loop, 'max_epochs' if schedule.by_epoch else 'max_iters', 0)


def _evaluate(runner: Any, loop: Any, split: str) -> dict[str, Any] | None:
    """Run one batch and its evaluation; what it gives, or None if that is unknown."""
    if not hasattr(loop, 'run_iter') or not isinstance(loop.dataloader, DataLoader):
        return None
    loader, evaluator = loop.dataloader, loop.evaluator
    with _named(f'{split}_dataloader'):
        samples = _of_different_sizes(loader, split)
        packed = [sample.get('data_samples') for sample in samples if isinstance(sample, dict)]
        check_comparable(packed, metrics_of(runner.cfg.get(f'{split}_evaluator')))
    if not samples:
        return None
    runner.model.eval()
    with replaced(runner, _hooks=[]), _results_kept(evaluator):
        try:
            with _named(f'{split}_evaluator', unwrapped(runner.model)):
                loop.run_iter(0, loader.collate_fn(samples))
        except UserError as error:
            if len(samples) > 1 and _runs_alone(loop, loader, samples):
                raise UserError(
                    f'{split}_dataloader.batch_size={loader.batch_size}: images of different sizes do not '
                    f'run together; set it to 1, or {split}_cfg.type to {split.capitalize()}LoopByImageSize '
                    f'({error})'
                ) from error
            raise
        kinds = [type(metric).__name__ for metric in getattr(evaluator, 'metrics', ())]
        if not kinds or not set(kinds) <= set(_OF_ANY_PART):
            return None
        with _named(f'{split}_evaluator'):
            found = evaluator.evaluate(len(samples))
    return found


def _runs_alone(loop: Any, loader: DataLoader, samples: Sequence[Any]) -> bool:
    try:
        for sample in samples:
            loop.run_iter(0, loader.collate_fn([sample]))
    except Exception:
        return False
    return True


def _of_different_sizes(loader: DataLoader, split: str) -> list[Any]:
    """Samples for a batch, of as many sizes as there are among the first images."""
    data, most = _twin(loader.dataset), loader.batch_size or 1
    found: dict[Any, list[Any]] = {}
    for index in range(min(len(data), _LOOKED_AT if most > 1 else 1)):
        sample = _packed(data[index], split)
        inputs = sample.get('inputs') if isinstance(sample, dict) else None
        found.setdefault(getattr(inputs, 'shape', None), []).append(sample)
    firsts = [samples.pop(0) for samples in found.values()]
    return [*firsts, *(sample for samples in found.values() for sample in samples)][:most]


def _twin(data: Any) -> Any:
    """A data set whose reading opens no file and fills no cache of the one that the workers get."""
    # copy.copy asks a wrapper of mmengine for what it does not have yet
    twin = object.__new__(type(data))
    own = vars(twin)
    own.update(vars(data))
    for name in own.keys() & {'dataset', 'inside', '_dataset'}:
        own[name] = _twin(own[name])
    if isinstance(own.get('datasets'), (list, tuple)):
        own['datasets'] = [_twin(one) for one in own['datasets']]
    if 'pipeline' in own:
        own['pipeline'] = copy.deepcopy(own['pipeline'])
    return twin


@contextmanager
def _named(part: str, model: nn.Module | None = None) -> Iterator[None]:
    """Raise what goes wrong as the user's error, with the part of the config that was running."""
    try:
        yield
    except Exception as error:
        problem = blame_run(error, part)
        if not str(problem).startswith('config: '):  # it is of an image, or the like
            raise problem from error
        hints = (_of_channels(error, model), _of_class_weight(error), _of_cycle(error))
        raise type(problem)('; '.join([str(problem), *filter(None, hints)])) from error


def _of_channels(error: Exception, model: nn.Module | None) -> str | None:
    """What the backbone gives, if an error may be about it; None otherwise."""
    parts = () if model is None else model.named_modules()  # a teacher and a student have one each
    backbone = next((part for name, part in parts if name.endswith('backbone')), None)
    channels = getattr(backbone, 'out_channels', None)
    is_of_images = str(error).startswith('expected images')
    if (
        not channels
        or is_of_images
        or not re.search('channels|inputs|index out of range', str(error))
    ):
        return None
    return f"the backbone's channels are {tuple(channels)}"


def _of_class_weight(error: Exception) -> str | None:
    """How many weights of classes the loss that failed has, if that may be why; None otherwise."""
    if not re.search('weight tensor|size of tensor|out of (bounds|range)', str(error)):
        return None
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        weights = getattr(frame.f_locals.get('self'), 'class_weight', None)
        if isinstance(weights, (list, tuple)):
            return f'its class_weight has {len(weights)} values'
    return None


def _of_cycle(error: Exception) -> str | None:
    """What to do if a schedule ends before the run; None for any other error."""
    is_short = 'number of total steps is' in str(error)
    return 'leave total_steps out, for as many as the run takes' if is_short else None


def _check_watched(runner: Any, found: dict[str, Any] | None) -> None:
    """Raise UserError if a hook waits for a metric that no evaluation gives."""
    schedules = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    for hook in [*runner.hooks, *schedules]:
        if isinstance(hook, CheckpointHook):
            if hook.out_dir and '://' not in str(hook.out_dir):
                make_folder(hook.out_dir, 'default_hooks.checkpoint.out_dir')
            place, watched = 'default_hooks.checkpoint.save_best', as_list(hook.save_best)
        elif isinstance(hook, EarlyStoppingHook):
            place, watched = 'EarlyStoppingHook.monitor', as_list(hook.monitor)
        elif hasattr(hook, 'monitor') and hook in schedules:
            place, watched = f'param_scheduler: {type(hook).__name__}.monitor', [hook.monitor]
        else:
            continue
        for key in watched:
            if key != 'auto' and not _is_given(runner, key, found):
                names = ', '.join(sorted({*(found or ()), *_of_coco(runner)})) or 'others'
                raise UserError(f'{place}={key}: no evaluation gives it; it gives {names}')


def _check_rules(runner: Any, found: dict[str, Any] | None) -> None:
    """Raise UserError if a hook does not know, or has wrong, which values of its metric are better."""
    known = _of_coco(runner)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best == ['auto'] and hook.rules == [None]:
            first = next(iter(found or _of_coco(runner, first=True)), None)  # that is what it takes
            if first and not _better(first, hook.greater_keys, hook.less_keys):
                raise UserError(
                    f'default_hooks.checkpoint.save_best=auto: whether greater or less values of {first} are '
                    "better is unknown; set default_hooks.checkpoint.rule, such as 'greater'"
                )
    for schedule in runner.param_schedulers if isinstance(runner.param_schedulers, list) else ():
        if isinstance(schedule, ReduceOnPlateauParamScheduler) and schedule.rule == 'less':
            key = schedule.monitor
            if key in known or (
                _better(key) == 'greater' and not re.search('loss|err', key.lower())
            ):
                raise UserError(
                    f"param_scheduler: {type(schedule).__name__}.rule='less': greater values of its "
                    f"monitor={key} are better; set rule='greater'"
                )


def _better(key: str, *keys: Any) -> str | None:
    """What mmengine's CheckpointHook infers: whether the greater or the less values are the better ones.

    Args:
        keys: those of which greater values are, and those of which less are; the hook has some of its own.
    """
    given = dict(zip(('greater_keys', 'less_keys'), keys))
    try:
        return CheckpointHook(save_best=key, **given).rules[0]
    except ValueError:
        return None


def _is_given(runner: Any, key: str, found: dict[str, Any] | None) -> bool:
    if runner.val_loop is None:
        return False
    metrics = getattr(runner.val_loop.evaluator, 'metrics', [])
    if key in (found or ()) or key in _of_coco(runner):
        return True
    if found is not None:
        return False
    return any(not m.prefix or key.startswith(f'{m.prefix}/') for m in metrics) or not metrics


def _of_coco(runner: Any, first: bool = False) -> list[str]:
    """What mmdet's metrics, or the ``first`` metric alone, give once anything is detected."""
    metrics = [] if runner.val_loop is None else getattr(runner.val_loop.evaluator, 'metrics', [])
    found = []
    for metric in metrics[:1] if first else metrics:
        if type(metric).__name__ == 'CocoMetric':
            classes = (metric.dataset_meta or {}).get('classes', ()) if metric.classwise else ()
            items = [
                f'{kind}_{m}' for kind in metric.metrics for m in metric.metric_items or _OF_BOXES
            ]
            items += [*(metric.metric_items or _OF_PROPOSALS), *(f'{c}_precision' for c in classes)]
            found += [f'{metric.prefix}/{item}' for item in items]
        elif type(metric).__name__ == 'CocoPanopticMetric':
            found += [f'{metric.prefix}/{item}' for item in _OF_SEGMENTS]
    return found


@contextmanager
def _results_kept(evaluator: Evaluator) -> Iterator[None]:
    """Put the metrics back when the block ends: some keep the annotations of the first images they see."""
    kept = [(metric, dict(vars(metric))) for metric in getattr(evaluator, 'metrics', ())]
    for metric, _ in kept:
        metric.results = []
    try:
        yield
    finally:
        for metric, state in kept:
            vars(metric).clear()
            vars(metric).update(state)


@contextmanager
def _undone(model: nn.Module) -> Iterator[None]:
    """Put random numbers, buffers and modes back when the block ends."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(), seeded((0,)):
            yield
    finally:
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer
            buffer.copy_(value)
        for module, mode in modes:
            module.training = mode
