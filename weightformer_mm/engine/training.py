"""Train what a config describes: detection or segmentation, new or resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from .amp import use_amp
from .checkpoint_check import check_matches, check_resumable
from .class_check import check_classes
from .config import load_config, require
from .data_check import check_data
from .errors import Interrupted, UserError
from .folders import make_folder
from .hooks import PlainCheckpointHook, StopOnNonFiniteLossHook
from .initial_weights import (
    InitialWeights,
    InitialWeightsHook,
    load_from_path,
    refuse_lenient_loading,
)
from .launch import use_launcher
from .libraries import require_libraries
from .randomness import SeedIterationsHook, resume_seed, use_positions
from .runner import build_runner
from .translate import explain
from .weight_sources import load_weights, use_safe_loading

RESUME_LAST = 'last'


def train(
    config: str,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    options: Sequence[str] = (),
    launcher: str = 'none',
    data_root: str | None = None,
    auto_scale_lr: bool = False,
) -> None:
    """Run the training that ``config`` describes; everything it makes lies in the work folder.

    Args:
        config: path of the config.
        work_dir: folder of checkpoints and logs; default ``work_dir`` of the config, else
            ``work_dirs/<name of the config>``.
        resume: a checkpoint to continue from; ``RESUME_LAST``: the last one in the work folder, or a fresh
            start where there is none; None: a fresh start.
        amp: mixed precision.
        options: ``KEY=VALUE`` changes to the config.
        launcher: one of none, pytorch, slurm, mpi.
        data_root: folder that takes the place of the config's ``data_root``.
        auto_scale_lr: scale the learning rate by the real batch over ``auto_scale_lr.base_batch_size``.

    Raises:
        UserError: bad input, found before the training starts wherever that is possible.
    """
    use_safe_loading()
    cfg = load_config(config, options, data_root)
    require(cfg, ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'), 'training')
    require_libraries(cfg.get('default_scope', 'mmengine'))
    refuse_lenient_loading(cfg)
    check_data(cfg, ('train', 'val'))
    cfg.work_dir = str(make_folder(work_dir or default_work_dir(cfg), '--work-dir'))
    if amp:
        use_amp(cfg)
    if auto_scale_lr:
        _use_auto_scale_lr(cfg)
    checkpoint = _checkpoint_to_resume(cfg, resume)
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        saved = load_weights(checkpoint)
        check_resumable(saved, checkpoint)
        cfg.load_from = str(checkpoint)
        resume_seed(cfg, saved)
    use_positions(cfg)
    initial = InitialWeights.of_config(cfg)
    use_launcher(cfg, launcher)
    runner = build_runner(cfg)
    check_classes(cfg, runner.model, ('train', 'val'))
    if checkpoint is not None:
        check_matches(runner.model, saved, checkpoint)
        del saved
    if initial is not None:
        runner.register_hook(InitialWeightsHook(initial.read(runner.model)))
    _add_hooks(runner)
    _say_what_happens(runner, checkpoint)
    try:
        runner.train()
    except KeyboardInterrupt as interrupt:
        raise Interrupted(_how_to_go_on(cfg.work_dir)) from interrupt
    except UserError as error:
        raise _with_way_on(error, cfg.work_dir) from error


def default_work_dir(cfg: Config) -> str:
    """``work_dir`` of the config, else ``work_dirs/<name of the config>``."""
    return cfg.get('work_dir') or str(Path('work_dirs', Path(cfg.filename).stem))


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that mmengine noted as the last one in a work folder, also after the folder moved.

    Raises:
        UserError: the note names a checkpoint that is gone, or is empty, as after a kill while it is written.
    """
    note = Path(work_dir, 'last_checkpoint')
    if not note.is_file():
        return None
    noted = note.read_text().strip()
    if not noted:
        raise UserError(f'{note} is empty; give --resume the path of a checkpoint')
    for path in (Path(noted), Path(work_dir, Path(noted).name)):
        if path.is_file():
            return path
    raise UserError(
        f'{note} names {noted}, which is not there; give --resume the path of a checkpoint'
    )


def _checkpoint_to_resume(cfg: Config, resume: str | None) -> Path | None:
    if resume is None and cfg.get('resume'):  # as mmengine reads the config's own keys
        resume = load_from_path(cfg) or RESUME_LAST
    if resume is None:
        return None
    return last_checkpoint(cfg.work_dir) if resume == RESUME_LAST else Path(resume).expanduser()


def _use_auto_scale_lr(cfg: Config) -> None:
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise UserError(
            f'--auto-scale-lr: {cfg.filename} does not say for which batch its learning rate is: '
            'add auto_scale_lr = dict(base_batch_size=16)'
        )
    cfg.auto_scale_lr.enable = True


def _add_hooks(runner: Runner) -> None:
    present = {type(hook) for hook in runner.hooks}
    for kind in (StopOnNonFiniteLossHook, PlainCheckpointHook, SeedIterationsHook):
        if kind not in present:
            runner.register_hook(kind())


def _say_what_happens(runner: Runner, checkpoint: Path | None) -> None:
    if checkpoint is not None:
        runner.logger.info(f'Continuing from {checkpoint}')
    elif Path(runner.work_dir, 'last_checkpoint').is_file():
        runner.logger.warning(
            f'{runner.work_dir} holds checkpoints of an earlier run; this run starts anew and replaces those '
            'of the same name. To continue instead: --resume'
        )


def _with_way_on(error: UserError, work_dir: str) -> UserError:
    """What is wrong with the data, and that the training so far is not lost."""
    problem = explain(error)
    note = Path(work_dir, 'last_checkpoint')
    if type(problem) is not UserError or not note.is_file():
        return problem
    return UserError(
        f'{problem}; once that is put right, --resume continues from {note.read_text()}'
    )


def _how_to_go_on(work_dir: str) -> str:
    note = Path(work_dir, 'last_checkpoint')
    if not note.is_file():
        return 'interrupted before the first checkpoint'
    return f'interrupted; add --resume to continue from {note.read_text().strip()}'
