"""Evaluate a checkpoint on the test split of a config."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..checkpoints.match import weights_to_predict
from ..checkpoints.schemes import use_safe_loading
from ..checkpoints.sources import load_weights
from ..config.read import as_list, load_config, require, type_name
from ..config.run import check_run
from ..datasets.checks.classes import check_classes
from ..datasets.checks.presence import check_data, refuse_data
from ..engine.hooks.rehearsal import RehearsalHook
from ..engine.runner.launch import use_launcher
from ..engine.runner.runner import build_runner
from ..errors import UserError
from ..evaluation.predictions import DumpClasses, WriteLabelsHook
from ..evaluation.tta import use_tta
from ..utils.translate import blame_run, blamed
from ..utils.writing import make_folder, refuse_replacing, staged
from ..visualization.drawing import DrawPredictionsHook, use_visualizer
from .exported_model import ExportedModel, is_exported
from .labels import keep_labels
from .training import default_work_dir

# the argument that makes each evaluator write its predictions, and the file name to give it
_PREDICTIONS = {
    'CocoMetric': ('outfile_prefix', 'detections'),
    'LVISMetric': ('outfile_prefix', 'detections'),
    'CocoPanopticMetric': ('outfile_prefix', 'panoptic'),
}
# evaluators that read labels alone
_OF_LABELS = ('IoUMetric', 'CityscapesMetric')
# evaluators of predicted classes, which write nothing themselves
_OF_CLASSES = ('Accuracy', 'SingleLabelMetric')


def evaluate(
    config: str | Config,
    checkpoint: str,
    work_dir: str | None = None,
    out: str | None = None,
    show_dir: str | None = None,
    tta: bool = False,
    options: Sequence[str] = (),
    launcher: str = 'none',
    score_thr: float = 0.3,
    data_root: str | None = None,
) -> dict[str, float]:
    """Evaluate ``checkpoint`` on the test split and return the metrics.

    Args (the others: see `weightformer_mm.apis`):
        work_dir: folder of the logs; default as in training.
        out: folder for ``metrics.json`` and the predictions: ``detections.{bbox,segm}.json`` in COCO's
            result format, label PNGs in ``labels/`` with the images' subfolders, or ``classes.json``.
        show_dir: folder for pictures ``ground truth | prediction``.
        checkpoint: or an ``.onnx`` file of `export`, which takes the model's place.
        tta: use the config's test-time augmentation.

    Raises:
        UserError: bad input, found before the evaluation starts wherever that is possible.
    """
    use_safe_loading()
    arguments = {'work_dir': ('--work-dir', work_dir), 'load_from': ('CHECKPOINT', checkpoint)}
    cfg = load_config(config, options, data_root, arguments)
    require(cfg, ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'), 'testing')
    exported = is_exported(checkpoint)
    weights = {} if exported else load_weights(checkpoint)
    with blamed(f'config: {cfg.filename}'):
        check_data(cfg, ('test',))
    outputs = {'--work-dir': work_dir, '--out': out, '--show-dir': show_dir}
    _check_outputs(cfg, (cfg.filename, checkpoint), outputs)
    cfg.work_dir = str(make_folder(work_dir or default_work_dir(cfg), '--work-dir'))
    cfg.load_from, cfg.resume = str(checkpoint), False
    if exported:
        _use_exported(cfg, checkpoint, tta, launcher)
    if tta:
        use_tta(cfg)
    use_launcher(cfg, launcher)
    with ExitStack() as stack:
        hooks: list[Hook] = []
        if out is not None:
            out_dir = make_folder(out, '--out')
            stage = stack.enter_context(staged(out_dir))
            if _write_predictions(cfg, stage):
                hooks.append(WriteLabelsHook(stage, out_dir))
        if show_dir is not None:
            use_visualizer(cfg)
            pictures = make_folder(show_dir, '--show-dir')
            hooks.append(DrawPredictionsHook(pictures, score_thr))
        with blamed(f'config: {cfg.filename}'):
            runner = build_runner(cfg, trains=False)
            check_run(cfg, ('test',))
            check_classes(cfg, runner.model, ('test',))
        if not exported:
            weights_to_predict(runner.model, weights, checkpoint)
            weights.clear()  # the runner reads the file again
        if not tta and all(type_name(x) in _OF_LABELS for x in as_list(cfg.test_evaluator)):
            keep_labels(runner.model)
        for hook in hooks:
            runner.register_hook(hook)
        metrics = _test(runner)
        if out is not None and is_main_process():
            (stage / 'metrics.json').write_text(_as_json(metrics))
    for written in filter(None, (out, show_dir)):
        runner.logger.info(f'Written to {written}')
    return metrics


def _use_exported(cfg: Config, path: str, tta: bool, launcher: str) -> None:
    """Let an exported file take the place of the model."""
    if tta or launcher != 'none':
        option = '--tta' if tta else '--launcher'
        raise UserError(
            f'{option}: an exported file gives labels, in one process; take the checkpoint'
        )
    scope = cfg.get('default_scope', 'mmengine')
    cfg.model = {
        'type': ExportedModel.__name__,
        'cfg': {'model': cfg.model, 'default_scope': scope},
        'path': path,
    }
    cfg.load_from = cfg.compile = None


def _test(runner: Runner) -> dict[str, float]:
    """Run the test; until an iteration has ended, whatever fails is the fault of the config."""
    rehearsal = RehearsalHook()
    runner.register_hook(rehearsal)
    try:
        options = runner.cfg.get('compile')
        if not isinstance(options, dict) or 'target' not in options:  # of FlexibleRunner
            runner._maybe_compile('test_step')  # the runner itself only compiles what trains
        return runner.test()
    except Exception as error:
        if rehearsal.has_begun:
            raise
        raise blame_run(error, 'test_dataloader') from error


def _as_json(metrics: dict[str, Any]) -> str:
    """The metrics as JSON; a value that is not finite becomes null."""
    fits = {n: isinstance(v, str) or math.isfinite(v) for n, v in metrics.items()}
    plain = {name: value if fits[name] else None for name, value in metrics.items()}
    return json.dumps(plain, indent=2, default=float) + '\n'


def _check_outputs(cfg: Config, inputs: Sequence[str], outputs: dict[str, str | None]) -> None:
    """Raise UserError if output in a folder could replace what is read; the hooks check each file."""
    folders = {option: Path(name).expanduser() for option, name in outputs.items() if name}
    for option, folder in folders.items():
        refuse_data(cfg, ('test',), option, folder)
    if '--out' in folders:
        refuse_data(cfg, ('test',), '--out', folders['--out'] / 'labels')
        written = [folders['--out'] / name for name in ('metrics.json', 'classes.json')]
        refuse_replacing('--out', written, inputs)


def _write_predictions(cfg: Config, folder: Path) -> bool:
    """Let the evaluators write their predictions; returns whether a hook must write labels as well."""
    used: Counter = Counter()
    has_labels, kept = False, []
    for evaluator in as_list(cfg.test_evaluator):
        kind = type_name(evaluator)
        if kind in _PREDICTIONS:
            argument, name = _PREDICTIONS[kind]
            used[name] += 1
            number = f'-{used[name]}' if used[name] > 1 else ''
            evaluator[argument] = str(folder / f'{name}{number}')
        if kind == 'IoUMetric':
            has_labels = True
            evaluator.pop('output_dir', None)
        has_nothing_left = kind == 'IoUMetric' and evaluator.get('format_only')
        if not has_nothing_left:
            kept.append(evaluator)
    if any(type_name(evaluator) in _OF_CLASSES for evaluator in kept):
        # by name: the official mmengine cannot print a config that contains a class
        kept.append({'type': DumpClasses.__name__, 'path': str(folder / 'classes.json')})
    cfg.test_evaluator = kept
    return has_labels
