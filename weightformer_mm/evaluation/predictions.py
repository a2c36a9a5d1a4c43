"""Predictions as files: one per image, or one for all images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from PIL import Image

from ..datasets.checks.wrappers import inner_datasets
from ..utils.writing import make_below, name_outputs, refuse_links, refuse_replacing

SEGMENT_STEP = 1000  # mmdet numbers a panoptic segment: its class + SEGMENT_STEP * its place


@METRICS.register_module()
class DumpClasses(BaseMetric):
    """Write the predicted class of every image; reports no metric.

    mmengine's own ``DumpResults`` would pickle the predictions.

    Args:
        path: the JSON file, a list of ``{"file_name", "label", "class", "score"}``: the image, the number of
            its class from 0, the name of that class if the data set has names, and its probability.
        options: arguments of mmengine's ``BaseMetric``.
    """

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        names = (self.dataset_meta or {}).get('classes')
        for sample in data_samples:
            score, label = (value.item() for value in sample['pred_score'].max(dim=-1))
            name = names[label] if names else None
            prediction = {'label': label, 'class': name, 'score': score}
            self.results.append({'file_name': sample['img_path'], **prediction})

    def compute_metrics(self, results: list) -> dict:
        Path(self.path).write_text(json.dumps(results) + '\n', encoding='utf-8')
        return {}


class OutputHook(Hook):
    """Write one file per test image into ``out_dir``, with the same subfolders as the images.

    A subclass defines ``rename``, which turns an image's path into its file's path, and ``write``.

    Args:
        out_dir: folder of the files.
        final: where the files are moved to afterwards, if not ``out_dir``.
    """

    def __init__(self, out_dir: Path, final: Path | None = None) -> None:
        self.out_dir, self.final = out_dir, final or out_dir
        self.names: dict[Path, Path] = {}

    def before_test(self, runner: Any) -> None:
        """Name all files, using the whole data set, since each of several processes sees only part of it.

        Raises:
            UserError: a file would replace an image or an annotation, or be written through a link.
        """
        dataset = runner.test_dataloader.dataset
        known = range(len(dataset) if hasattr(dataset, 'get_data_info') else 0)
        infos = [dataset.get_data_info(index) for index in known]
        images = {os.path.abspath(info['img_path']) for info in infos if info.get('img_path')}
        if not images:
            return
        # an image may lie elsewhere
        root = os.path.commonpath([*_image_folders(dataset), *map(os.path.dirname, images)])
        self.names = name_outputs(images, root, self.rename)
        files = (value for info in infos for key, value in info.items() if key.endswith('_path'))
        targets = [self.final / name for name in self.names.values()]
        refuse_replacing('', targets, (file for file in files if isinstance(file, str)))
        refuse_links(self.final, self.names.values())

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for sample in outputs or ():
            path = Path(os.path.abspath(sample.img_path))
            name = self.names.get(path) or self.rename(Path(path.name))
            self.write(runner, sample, make_below(self.out_dir, name))


def _image_folders(dataset: Any) -> list[str]:
    """Absolute paths of the image folders of a built data set, as far as they are on this file system."""
    parts = [part for part in inner_datasets(dataset) if hasattr(part, 'data_prefix')]
    folders = [p.data_prefix.get('img') or p.data_prefix.get('img_path') for p in parts]
    places = [os.path.abspath(f or p.data_root or '') for f, p in zip(folders, parts)]
    return [place for place in places if os.path.isdir(place)]


class WriteLabelsHook(OutputHook):
    """Write the predicted labels of every test image as a PNG with one channel, below ``labels/``.

    The pixels are those that mmseg's ``IoUMetric`` writes, plus one if ``reduce_zero_label`` subtracted one.
    ``IoUMetric`` names its files only by the images' base names, so ``a/0.png`` and ``b/0.png`` become one.
    """

    def rename(self, path: Path) -> Path:
        return label_name(path)

    def write(self, runner: Any, sample: Any, path: Path) -> None:
        write_labels(sample, path, sample.get('reduce_zero_label', False))


def label_name(path: Path) -> Path:
    """Where the labels of the image ``path`` are written."""
    return Path('labels', path.with_suffix('.png'))


def write_labels(sample: Any, path: Path, shifted: bool) -> None:
    """Write the labels of a ``SegDataSample`` as a PNG with one channel, of 16 bits if one is beyond 255.

    ``shifted``: add one, which loading subtracted (``reduce_zero_label``).
    """
    labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()  # (H, W)
    labels = labels.astype(np.uint16) + shifted
    Image.fromarray(labels.astype(np.min_scalar_type(labels.max()))).save(path)


def as_plain(sample: Any, classes: Sequence[str] | None = None) -> dict[str, list]:
    """A prediction as values that JSON has: an entry per object, or per class in the image.

    ``labels`` are numbers of classes, ``names`` their names. Of a panoptic model an entry is a segment, with
    its ``pixels``; two things of a class are two. A detector adds ``scores``, ``bboxes`` (x1, y1,
    x2, y2 in pixels) and ``masks``, a segmentor ``pixels`` (how many) and ``masks``, a classifier the
    ``scores`` of all classes, best first. Masks are in COCO's uncompressed format.
    """
    masks: Iterable[Any] = ()
    if 'pred_panoptic_seg' in sample:
        numbers = sample.pred_panoptic_seg.sem_seg.squeeze(0).cpu().numpy()  # (H, W)
        found, counts = np.unique(numbers, return_counts=True)
        labels = found % SEGMENT_STEP
        is_known = labels < len(classes or labels)  # the number after the last class is void
        plain = {'labels': labels[is_known].tolist(), 'pixels': counts[is_known].tolist()}
        masks = (numbers == number for number in found[is_known])
    elif 'pred_instances' in sample:
        objects = sample.pred_instances.cpu().numpy()
        plain = {key: objects[key].tolist() for key in ('labels', 'scores', 'bboxes')}
        masks = objects.get('masks', ())
    elif 'pred_sem_seg' in sample:
        pixels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()  # (H, W)
        labels, counts = np.unique(pixels, return_counts=True)
        plain = {'labels': labels.astype(int).tolist(), 'pixels': counts.tolist()}
        masks = (pixels == label for label in labels)  # all of them at once are large
    else:
        scores, labels = sample.pred_score.sort(descending=True)
        plain = {'labels': labels.tolist(), 'scores': scores.tolist()}
    names = [classes[label] if classes else None for label in plain['labels']]
    return {**plain, 'names': names, 'masks': [_run_lengths(mask) for mask in masks]}


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Lengths of the runs down the columns of a mask ``(H, W)``; the first run is outside."""
    changes = np.flatnonzero(np.diff(mask.ravel(order='F'), prepend=False))
    counts = np.diff(changes, prepend=0, append=mask.size)
    return {'size': list(mask.shape), 'counts': counts.tolist()}
