"""Sheets ``picture | truth | what networks see`` of validation images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mmcv
import numpy as np
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from weightformer_mm.apis import Inferencer
from weightformer_mm.visualization.contact_sheet import write_contact_sheet
from weightformer_mm.visualization.drawing import draw_truth

_SIDE = 320  # pixels, of a picture on a sheet
_SCORE = 0.5  # detections below it are not drawn


def write_sheet(networks: Mapping[str, tuple[Config, Path]], out: Path, number: int = 6) -> None:
    """Write a sheet with a row for each of ``number`` images, spread evenly over the validation part.

    Args:
        networks: config and checkpoint by the name that the caption says.
        out: the picture to write.
    """
    inferencers = {
        name: Inferencer(cfg, checkpoint) for name, (cfg, checkpoint) in networks.items()
    }
    for inferencer in inferencers.values():
        # names and scores would hide small objects
        inferencer.visualizer.draw_texts = _draw_nothing
    first = next(iter(inferencers.values()))
    samples = _samples(first.model.cfg, number)
    paths = [sample.img_path for sample in samples]
    pictures = [mmcv.imread(path, channel_order='rgb') for path in paths]
    truths = [draw_truth(first.visualizer, *pair) for pair in zip(pictures, samples)]
    seen = [_drawn(inferencer, paths) for inferencer in inferencers.values()]
    title = ' | '.join(['picture', 'truth', *networks])
    captions = [f'{title}: {Path(path).name}' for path in paths]
    write_contact_sheet([*zip(pictures, truths, *seen)], captions, out, columns=1, side=_SIDE)


def _draw_nothing(*arguments: Any, **options: Any) -> None:
    pass


def _samples(cfg: Config, number: int) -> list[Any]:
    """Data samples with annotations in the size of the files."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    indices = np.linspace(0, len(dataset) - 1, min(number, len(dataset))).round().astype(int)
    samples = [dataset[int(index)]['data_samples'] for index in indices]
    for found in (sample.gt_instances for sample in samples if 'gt_instances' in sample):
        found.bboxes = get_box_tensor(found.bboxes)  # what the visualizer reads
    return samples


def _drawn(inferencer: Inferencer, paths: list[str]) -> list[np.ndarray]:
    with TemporaryDirectory() as folder:
        inferencer(paths, folder, _SCORE)
        return [
            mmcv.imread(str(Path(folder, Path(path).name)), channel_order='rgb') for path in paths
        ]
