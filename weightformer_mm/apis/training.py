"""Train what a config describes: detection, segmentation or classification, new or resumed."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from ..checkpoints.match import check_matches
from ..checkpoints.pretrained import initial_weights, load_from_path, refuse_lenient_loading
from ..checkpoints.schemes import use_safe_loading
from ..config.read import load_config, require
from ..config.run import check_run
from ..datasets.checks.classes import check_classes
from ..datasets.checks.presence import check_data
from ..engine.hooks import training as hooks
from ..engine.hooks.rehearsal import RehearsalHook
from ..engine.optimizers.amp import use_amp
from ..engine.runner.launch import use_launcher
from ..engine.runner.randomness import resume_seed
from ..engine.runner.runner import build_runner
from ..engine.work_folder import NOTE, Resumable, held
from ..errors import RunFailed, UserError
from ..utils.interrupts import forget_workers, stopped_by
from ..utils.translate import blame_run, blamed, explain

RESUME_LAST = 'last'


def train(
    config: str | Config,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    options: Sequence[str] = (),
    launcher: str = 'none',
    data_root: str | None = None,
    auto_scale_lr: bool = False,
) -> None:
    """Run the training that ``config`` describes, and write everything into the work folder.

    Args (the others: see `weightformer_mm.apis`):
        work_dir: folder of checkpoints and logs; default: ``work_dir`` of the config, else
            ``work_dirs/<name of the config>``.
        resume: a checkpoint to continue from; ``RESUME_LAST``: the last one in the work folder, or a fresh
            start if there is none; None: a fresh start.
        amp: use mixed precision.
        auto_scale_lr: scale the learning rate by the batch size over ``auto_scale_lr.base_batch_size``.

    Raises:
        UserError: bad input, found before the training starts wherever that is possible.
    """
    use_safe_loading()
    checkpoint = resume if resume != RESUME_LAST else None  # the last one may not be there yet
    arguments = {'work_dir': ('--work-dir', work_dir), 'load_from': ('--resume', checkpoint)}
    cfg = load_config(config, options, data_root, arguments)
    require(cfg, ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'), 'training')
    refuse_lenient_loading(cfg)
    with blamed(f'config: {cfg.filename}'):
        check_data(cfg, ('train', 'val'))
    cfg.work_dir = os.path.abspath(os.path.expanduser(work_dir or default_work_dir(cfg)))
    if amp:
        use_amp(cfg)
    scales = auto_scale_lr or (cfg.get('auto_scale_lr') or {}).get('enable')
    _refuse_idle(
        options, bool(scales), launcher != 'none', cfg.get('runner_type') == 'FlexibleRunner'
    )
    if auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise UserError(
                f'--auto-scale-lr: {cfg.filename} has no auto_scale_lr.base_batch_size to scale from'
            )
        cfg.auto_scale_lr.enable = True
    with held(Path(cfg.work_dir), launcher):
        resumed = _checkpoint_to_resume(cfg, resume)
        cfg.resume = resumed is not None
        if resumed is not None:
            cfg.load_from = str(resumed.path)
            if cfg.get('exact_resume'):
                resume_seed(cfg, resumed.content)
        initial = initial_weights(cfg)
        use_launcher(cfg, launcher)
        with blamed(f'config: {cfg.filename}'):
            runner = build_runner(cfg)
            check_run(cfg, ('train', 'val'))
            check_classes(cfg, runner.model, ('train', 'val'))
            _refuse_unmatched(options, runner.model)
        if initial is not None:
            runner.register_hook(hooks.InitialWeightsHook(initial.for_model(runner.model)))
        _prepare(runner, resumed)
        _run(runner, resumed)


def _refuse_idle(options: Sequence[str], scales: bool, several: bool, flexible: bool) -> None:
    """Raise UserError for an option that only a scaled rate, several processes or `FlexibleRunner` read."""
    of_several = ('sync_bn', 'find_unused_parameters', 'model_wrapper_cfg', 'env_cfg.dist_cfg')
    needs = {
        'auto_scale_lr.base_batch_size': (scales, '--auto-scale-lr, or auto_scale_lr.enable=True'),
        **{key: (several, '--launcher') for key in of_several},
        'strategy': (flexible, 'runner_type=FlexibleRunner'),
    }
    for option in options:
        key, _, value = option.partition('=')
        if value == 'None':  # it takes a part away
            continue
        for place, (is_met, need) in needs.items():
            if not is_met and f'{key}.'.startswith(f'{place}.'):
                raise UserError(f'--cfg-options {key}: has no effect without {need}')


def _refuse_unmatched(options: Sequence[str], model: nn.Module) -> None:
    """Raise UserError for a factor of the learning rate or decay of parameters that the model has not."""
    for key in (option.partition('=')[0] for option in options):
        _, is_factor, rest = key.partition('paramwise_cfg.custom_keys.')
        part = rest.partition('.')[0]
        if is_factor and not any(part in name for name, _ in model.named_parameters()):
            raise UserError(
                f'--cfg-options {key}: no parameter of the model has {part} in its name'
            )


def _prepare(runner: Runner, resumed: Resumable | None) -> None:
    """Check that a resumed checkpoint fits, and say what is about to happen."""
    for kind in (hooks.StopOnNonFiniteLossHook, hooks.PlainCheckpointHook):
        if not any(type(hook) is kind for hook in runner.hooks):
            runner.register_hook(kind())
    if resumed is not None:
        check_matches(runner.model, resumed.content, resumed.path)
        resumed.content.clear()  # the runner reads the file again
        for problem in resumed.passed_over:
            runner.logger.warning(f'Passed over: {problem}')
        runner.logger.info(f'Continuing from {resumed.path}')
    elif Path(runner.work_dir, NOTE).is_file() or any(Path(runner.work_dir).glob('*.pth')):
        runner.logger.warning(
            f'{runner.work_dir} holds checkpoints of an earlier run, which this one replaces (no --resume)'
        )


def _run(runner: Runner, resumed: Resumable | None) -> None:
    before = _noted(runner.work_dir)
    continued = f'{resumed.path}' if resumed else ''

    def way_on(words: str) -> str:
        """``words`` and this run's last checkpoint; empty if there is none yet."""
        noted = _noted(runner.work_dir)
        last = noted[0] if noted != before else continued
        return f'; {words} from {last}' if last else ''

    rehearsal = RehearsalHook()
    runner.register_hook(rehearsal)
    try:
        runner.train()
    except KeyboardInterrupt as interrupt:
        forget_workers()
        words = way_on('add --resume to continue') or ' before the first checkpoint'
        raise stopped_by(interrupt, words) from interrupt
    except Exception as error:
        forget_workers()
        has_begun = rehearsal.has_begun
        problem = explain(error) if has_begun else blame_run(error, runner.cfg.filename)
        # raised when a log or a curve cannot be written; it may not name the file
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = RunFailed(
                f'cannot write {error.filename or runner.work_dir}: {error.strerror}'
            )
        if problem is None:
            raise
        is_new = not rehearsal.has_begun and _noted(runner.work_dir) == before
        words = '' if is_new else way_on('once that is put right, --resume continues')
        raise type(problem)(f'{problem}{words}') from error


def default_work_dir(cfg: Config) -> str:
    """``work_dir`` of the config, else ``work_dirs/<name of the config>``."""
    return cfg.get('work_dir') or str(Path('work_dirs', Path(cfg.filename).stem))


def _checkpoint_to_resume(cfg: Config, resume: str | None) -> Resumable | None:
    if resume is None and cfg.get('resume'):  # as mmengine reads the config's own keys
        resume = load_from_path(cfg) or RESUME_LAST
    if resume is None:
        return None
    if resume != RESUME_LAST:
        return Resumable.read(resume)
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    by_epoch = hook.get('by_epoch', True)
    template = hook.get('filename_tmpl') or ('epoch_{}.pth' if by_epoch else 'iter_{}.pth')
    folder = hook.get('out_dir') and Path(hook['out_dir'], Path(cfg.work_dir).name)
    return Resumable.newest(cfg.work_dir, template, folder)


def _noted(work_dir: str) -> tuple[str, int]:
    """The checkpoint that a work folder's note names, and when it was written."""
    note = Path(work_dir, NOTE)
    return (note.read_text().strip(), note.stat().st_mtime_ns) if note.is_file() else ('', 0)
