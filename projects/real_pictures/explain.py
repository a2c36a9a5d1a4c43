"""What trained weights make of context: measured to see why predicted parameters help, or do not."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from weightformer_mm.apis import init_model
from weightformer_mm.apis.receptive_field import AFTER, AS_IN_CONFIG, run_erf
from weightformer_mm.apis.test import evaluate
from weightformer_mm.config.read import innermost_dataset
from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear
from weightformer_mm.utils.writing import written_whole

from .campaign import read_records
from .networks import MAIN, PUBLISHED, STATIC, STRATEGIES
from .plan import METRICS, ROOT, SEEDS, SHAPES, Run, best_rate, image_folder, score, scores_of

IMAGES = 40  # of the training part, for mean parameters and receptive fields
INPUT_SCALES = (0.5, 0.75, 1.0)  # of CamVid's images; the short protocol trains at the first
SIDES = (256, 360, 520)  # pixels; nuclei are grouped by the shorter side of their image, up to each


def explain(work_dir: Path, results: Path, commit: str) -> None:
    """Add ``explained`` to the records of static, published and attention at their best learning rates.

    What has it already is left as it is.

    Args:
        work_dir: folder of the runs' checkpoints.
        results: folder of the records.
        commit: of the code that measures.
    """
    for run in track(list(_left(results)), console=Console(stderr=True), transient=True):
        file = results / f'{run.name}.json'
        record = json.loads(file.read_text(encoding='utf-8'))
        found = explain_run(run, work_dir / run.name)
        date = datetime.date.today().isoformat()
        record['explained'] = {**found, 'commit': commit, 'date': date}
        with written_whole(file) as partial:
            partial.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')


def _left(results: Path) -> Iterator[Run]:
    records = read_records(results)
    for data in METRICS:
        for network in MAIN:
            rate = best_rate(data, network, scores_of(records))
            runs = [] if rate is None else [Run(data, network, rate, seed=seed) for seed in SEEDS]
            recorded = (run for run in runs if run.name in records)
            yield from (run for run in recorded if 'explained' not in records[run.name])


def explain_run(run: Run, folder: Path) -> dict[str, Any]:
    """Scores by size and the receptive field; of the published pair, also what its predictions are worth.

    Returns:
        ``by_size`` (size → score) and ``receptive_field`` (part of the image's sides → share of the energy
        beyond it). For the published pair also ``frozen`` (the score with every predicted parameter at its
        mean over training images, where it no longer depends on the image) and ``variation`` (kind of layer
        → how far the parameters of an image lie from that mean, relative to its norm).
    """
    cfg = run.load_config()
    checkpoint = folder / f'epoch_{cfg.max_epochs}.pth'
    found: dict[str, Any] = {
        'by_size': {
            size: _score(run, part, checkpoint) for size, part in _by_size(run.data, cfg, folder)
        },
        'receptive_field': _receptive_field(run.data, cfg, checkpoint),
    }
    if run.network == PUBLISHED:
        weights, found['variation'] = freeze(cfg, checkpoint)
        torch.save({'state_dict': weights}, folder / 'frozen.pth')
        cfg.model.backbone.update(STRATEGIES[STATIC])
        found['frozen'] = _score(run, cfg, folder / 'frozen.pth')
    return found


def freeze(cfg: Config, checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The weights of a static network with a dynamic one's mean parameters, and how these vary on average."""
    model = init_model(copy.deepcopy(cfg), checkpoint)
    kinds: dict[type, str] = {DynamicLinear: 'linear', DynamicDepthwiseConv2d: 'convolution'}
    layers = {name: module for name, module in model.named_modules() if type(module) in kinds}
    seen: dict[nn.Module, list[Tensor]] = {module: [] for module in layers.values()}
    for module in layers.values():
        module.register_forward_pre_hook(
            lambda module, inputs: seen[module].append(_parameter(module, inputs[0]))
        )
    with torch.no_grad(), DefaultScope.overwrite_default_scope(cfg.default_scope):
        for batch in Runner.build_dataloader(_training_images(cfg)):
            model.test_step(batch)
    weights = {name: w for name, w in model.state_dict().items() if '.predictor.' not in name}
    variation: dict[str, list[float]] = {kind: [] for kind in kinds.values()}
    for name, module in layers.items():
        parameters = torch.cat(seen[module])
        weights[f'{name}.weight'] = average = parameters.mean(dim=0)
        distances = (parameters - average).flatten(1).norm(dim=1) / average.norm()
        variation[kinds[type(module)]].append(distances.mean().item())
    return weights, {kind: mean(values) for kind, values in variation.items()}


def _parameter(module: Any, x: Tensor) -> Tensor:
    """The weight or kernel of each image; the first dimension is the batch."""
    is_linear = isinstance(module, DynamicLinear)
    return module.predicted_weight(x) if is_linear else module.kernel(x)


def _training_images(cfg: Config) -> Config:
    """A loader of training images, one by one, prepared as for a test."""
    loader, train = copy.deepcopy(cfg.test_dataloader), innermost_dataset(cfg.train_dataloader)
    loader.dataset.update({k: train[k] for k in ('ann_file', 'data_prefix') if k in train})
    loader.update(batch_size=1, num_workers=0, persistent_workers=False)
    last = len(list(image_folder(train).iterdir())) - 1
    loader.dataset.indices = (
        np.linspace(0, last, min(IMAGES, last + 1)).round().astype(int).tolist()
    )
    return loader


def _receptive_field(data: str, cfg: Config, checkpoint: Path) -> dict[str, float]:
    numbers = run_erf(
        str(next(checkpoint.parent.glob('*.py'))),
        checkpoint.with_name('receptive_field.png'),
        str(checkpoint),
        images=str(image_folder(innermost_dataset(cfg.train_dataloader))),
        count=IMAGES,
        size=SHAPES[data][0],
    )
    return numbers[AFTER][AS_IN_CONFIG]


def _by_size(data: str, cfg: Config, folder: Path) -> Iterator[tuple[str, Config]]:
    """CamVid's images in several sizes; the images of nuclei in groups of about one size."""
    if data == 'camvid':
        for factor in INPUT_SCALES:
            part = copy.deepcopy(cfg)
            height, width = (round(factor * side) for side in SHAPES[data][-1])
            resize = next(step for step in part.test_dataloader.dataset.pipeline if 'scale' in step)
            resize.scale = (width, height)
            yield f'{height}x{width}', part
        return
    dataset = innermost_dataset(cfg.test_dataloader)
    whole = json.loads(Path(ROOT, dataset.data_root, dataset.ann_file).read_text(encoding='utf-8'))
    for low, high in zip((0, *SIDES), SIDES):
        some = with_sides(whole, low, high)
        if not some['images']:
            continue
        part, file = copy.deepcopy(cfg), folder / f'up_to_{high}.json'
        file.write_text(json.dumps(some), encoding='utf-8')
        part.test_dataloader.dataset.ann_file = part.test_evaluator.ann_file = str(file)
        yield f'{low + 1} to {high}' if low else f'up to {high}', part


def with_sides(coco: Mapping[str, Any], low: int, high: int) -> dict[str, Any]:
    """The images whose shorter side is above ``low`` and at most ``high``, with their annotations."""
    sides = {image['id']: min(image['height'], image['width']) for image in coco['images']}
    images = [image for image in coco['images'] if low < sides[image['id']] <= high]
    kept = [each for each in coco['annotations'] if low < sides[each['image_id']] <= high]
    return {**coco, 'images': images, 'annotations': kept}


def _score(run: Run, cfg: Config, checkpoint: Path) -> float:
    metrics = evaluate(cfg, str(checkpoint), str(checkpoint.with_name('explain')))
    return float(score({'data': run.data, 'metrics': metrics}))
