"""Files of `weightformer-mm export` beside their model: size, metrics and time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from rich.console import Console

from weightformer_mm.apis import init_model
from weightformer_mm.apis.export import Form, export
from weightformer_mm.apis.exported_model import need_onnx
from weightformer_mm.apis.predictor import Predictor
from weightformer_mm.apis.test import evaluate
from weightformer_mm.checkpoints.sources import WEIGHTS
from weightformer_mm.config.read import find_recipe, innermost_dataset, load_config
from weightformer_mm.datasets.checks.presence import check_data
from weightformer_mm.errors import UserError
from weightformer_mm.utils.tables import markdown_table
from weightformer_mm.utils.writing import make_folder, written_whole

from .clock import CpuClock, failure_of, interleave
from .machine import describe, now
from .measure import speed_ratio
from .steps import Step

MODEL, COMPILED = 'model', 'model, compiled'
METRICS = ('coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1')
_COMPILE = {'dynamic': True}
_PARTS = {'test': 'test', 'val': 'validation'}
HEAD = ('recipe', 'form', 'MB', 'metrics', 'ms an image', 'speed against the model')


@dataclass(frozen=True)
class Method:
    """How to measure.

    Attributes:
        rounds: of timing.
        images: of the measured split, which are timed.
        calibration: images of the training set, which set the ranges of int8.
        data_root: of the data sets; None: as the recipes say.
        split: 'test' or 'val'.
    """

    rounds: int = 5
    images: int = 4
    calibration: int = 32
    data_root: str | None = None
    split: str = 'test'

    def config(self, recipe: str) -> Config:
        """Of a recipe, whose test set is the measured split."""
        cfg = load_config(recipe, data_root=self.data_root)
        cfg.test_dataloader = cfg[f'{self.split}_dataloader']
        cfg.test_evaluator = cfg[f'{self.split}_evaluator']
        return cfg


def run_deployed(recipes: Sequence[str], method: Method, out: str) -> None:
    """Measure the forms of each recipe's weights, and write a table as Markdown.

    Raises:
        UserError: a recipe has no weights, its data is missing, or ``out`` does not end in ``.md``.
    """
    need_onnx('onnx', 'onnxruntime')
    path = Path(out).expanduser()
    if path.suffix != '.md':
        raise UserError(f'--out {out}: expected a name that ends in .md')
    for recipe in recipes:
        if find_recipe(recipe, WEIGHTS) is None:
            raise UserError(f'{recipe}: no recipe with weights')
        check_data(method.config(recipe), ('train', 'test'))
    make_folder(path.parent, '--out')
    rows: list[list[str]] = []
    for recipe in recipes:
        rows += _measure(recipe, method)
        _write(path, rows, method)
    print(path)


def _write(path: Path, rows: Sequence[Sequence[str]], method: Method) -> None:
    cells = describe(torch.device('cpu'))
    about = (
        '# Exported files: size, metrics, time\n\n'
        'Written by `python tools/benchmark.py deployed`. Metrics are of the whole '
        f'{_PARTS[method.split]} part, by the evaluators of\n`weightformer-mm test`: COCO mAP of boxes and '
        'masks, or mIoU in percent. Times are medians from the image in\nmemory to the data sample, with '
        'pipeline and post-processing, in turns with the model.\n'
        f'{cells["device"]}, {cells["threads"]} threads, torch {cells["torch"]}, onnxruntime '
        f'{_runtime_version()}, commit {cells["commit"] or "unknown"}, {now()}.\n\n'
    )
    with written_whole(path) as partial:
        partial.write_text(about + markdown_table(HEAD, rows), encoding='utf-8')


def _runtime_version() -> str:
    import onnxruntime

    return onnxruntime.__version__


def _measure(recipe: str, method: Method) -> Iterator[list[str]]:
    """The rows of a recipe; a form that fails has one that says why."""
    console = Console(stderr=True)
    cfg = method.config(recipe)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        images = _images(cfg.test_dataloader, method.images)
        samples = _images(cfg.train_dataloader, method.calibration)
    with TemporaryDirectory() as folder:
        files: dict[str, Any] = {}
        steps, failures, metrics = {}, {}, {}
        for name, make in _forms(recipe, Path(folder), samples).items():
            console.print(f'{recipe}: {name}', markup=False)
            form = Config({**cfg, 'compile': _COMPILE if name == COMPILED else None})
            try:
                files[name] = make()
                found = evaluate(form, str(files[name]), work_dir=f'{folder}/work')
                steps[name] = Step(_step(form, files[name], images))
            except Exception as error:
                if name == MODEL:
                    raise
                failures[name] = failure_of(error)
            else:
                metrics[name] = [f'{found[key]:.4g}' for key in METRICS if key in found]
        timed = interleave(steps, CpuClock(), method.rounds, warmup=1)
        sizes = {name: Path(file).stat().st_size for name, file in files.items()}
    failures.update(timed.failures)
    for name, times in timed.times.items():
        milliseconds = float(np.median(times)) / len(images)
        ratio = speed_ratio(times, timed.times[MODEL])
        cells = [f'{sizes[name] / 2**20:.1f}', ', '.join(metrics[name]), f'{milliseconds:.0f}']
        yield [recipe, name, *cells, f'{ratio:.2f}']
    for name, reason in failures.items():
        yield [recipe, name, '', reason, '', '']


def _forms(
    recipe: str, folder: Path, samples: Sequence[np.ndarray]
) -> dict[str, Callable[[], Path]]:
    def written(name: str, **options: Any) -> Path:
        form = Form(**options)
        return export(recipe, None, folder / name, form, with_preprocessing=True)

    weights = find_recipe(recipe, WEIGHTS)
    assert weights is not None
    return {
        MODEL: lambda: weights,
        COMPILED: lambda: weights,
        'ONNX': lambda: written('float32.onnx'),
        'ONNX, float16': lambda: written('float16.onnx', half=True),
        'ONNX, int8': lambda: quantized(folder / 'float32.onnx', samples, folder / 'int8.onnx'),
    }


def quantized(path: Path, samples: Sequence[np.ndarray], out: Path) -> Path:
    """An int8 file of a float32 file, with ranges that hold what ``samples``, ``(H, W, 3)``, give."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        left = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({'image': sample[None]} for sample in self.left), None)

    logging.getLogger().setLevel(logging.ERROR)  # it warns of every weight of one axis
    merged = out.with_suffix('.merged.onnx')
    quant_pre_process(str(path), str(merged), skip_symbolic_shape=True)
    quantize_static(str(merged), str(out), Reader(), per_channel=True)
    _keep_metadata(path, out)
    return out


def _keep_metadata(path: Path, out: Path) -> None:
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    model = onnx.load(str(out))
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(out))


def _images(dataloader: Any, count: int) -> list[np.ndarray]:
    """The first images of a split, BGR."""
    dataset = DATASETS.build(innermost_dataset(dataloader))
    paths = [dataset.get_data_info(index)['img_path'] for index in range(min(count, len(dataset)))]
    return [cv2.imread(str(path)) for path in paths]


def _step(cfg: Config, file: Any, images: Sequence[np.ndarray]) -> Callable[[], object]:
    model: Any = init_model(cfg, file, 'cpu')
    if cfg.compile is not None:
        model.test_step = torch.compile(model.test_step, **cfg.compile)
    predict = Predictor(model)
    return lambda: list(predict(images))
