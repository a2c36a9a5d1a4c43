"""Pictures of predictions, drawn with the visualizer of mmdet, mmseg or mmpretrain."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config

from ..datasets.checks.images import loader
from ..datasets.checks.wrappers import innermost
from ..errors import UserError
from ..evaluation.predictions import SEGMENT_STEP, OutputHook
from ..utils.writing import written_whole

_VISUALIZERS = {
    'mmdet': 'DetLocalVisualizer',
    'mmseg': 'SegLocalVisualizer',
    'mmpretrain': 'UniversalVisualizer',
}
_LEAST_SIDE = 224  # pixels, so that class names are readable
_MOST_PIXELS = (
    2**24
)  # mmseg lists the pixels of each class to place its name: gigabytes beyond 4096x4096
# formats that OpenCV can write and everybody can open
_WRITABLE = ('.jpg', '.jpeg', '.png')


def use_visualizer(cfg: Config) -> None:
    """Make sure that the config has a visualizer; a UserError if its library has none."""
    scope = cfg.get('default_scope', 'mmengine')
    if scope not in _VISUALIZERS:
        raise UserError(f'pictures are drawn for {", ".join(_VISUALIZERS)}, not for {scope}')
    if cfg.get('visualizer') is None:
        cfg.visualizer = {'type': _VISUALIZERS[scope], 'name': 'visualizer'}


def visible(
    image: np.ndarray, is_rgb: bool = False, bands: Sequence[int] | None = None
) -> np.ndarray:
    """Any image that a pipeline loads as one to look at: ``(H, W, 3)`` uint8, RGB.

    One channel, or the first of two, becomes grey; of more than three, the first three are shown. Values
    that are no bytes are stretched to between black and white.

    Args:
        image: ``(H, W)`` or ``(H, W, channels)``, of any type.
        is_rgb: whether the channels of a colour image are in this order; otherwise BGR.
        bands: the channels to show as red, green and blue, numbered from 0.

    Raises:
        UserError: the image does not have these bands.
    """
    image = image[..., None] if image.ndim == 2 else image
    if bands is not None:
        known = range(image.shape[2])
        if len(bands) != 3 or not all(band in known for band in bands):
            given = ' '.join(map(str, bands))
            raise UserError(f'--bands {given}: expected three, each from 0 to {known[-1]}')
        image, is_rgb = image[..., list(bands)], True
    image = image[..., :3] if image.shape[2] >= 3 else image[..., [0, 0, 0]]
    if image.dtype != np.uint8:
        is_float = image.dtype.kind == 'f'
        image = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
        low, high = float(image.min()), float(image.max())
        # floats may be bytes, but for the rounding of a normalisation
        if not is_float or low < -0.5 or high > 255.5 or high <= 1:
            image = (image - low) * (255 / max(high - low, 1e-12))
        image = image.round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(image if is_rgb else image[..., ::-1])


def draw(
    visualizer: Any,
    image: np.ndarray,
    sample: Any,
    out_file: Path,
    with_truth: bool,
    score_thr: float,
) -> None:
    """Write one picture; with the ground truth beside the prediction if requested and known.

    A classifier's classes are written on the image, which is enlarged if it is too small. Segments of a huge
    image get colours, but no names of classes.

    Args:
        image: ``(H, W, 3)`` uint8, RGB, in the size of the original file.
        sample: ``DetDataSample``, ``SegDataSample`` or mmpretrain's ``DataSample`` of a prediction.
    """
    shown = {'draw_gt': with_truth, 'pred_score_thr': score_thr}
    with written_whole(out_file) as partial:
        if (
            image.shape[0] * image.shape[1] > _MOST_PIXELS
            and 'pred_sem_seg' in sample
            and not with_truth
        ):
            mmcv.imwrite(_coloured(visualizer, image, sample), str(partial))
            return
        _paint(visualizer, image, sample, **shown, out_file=str(partial))


def _coloured(visualizer: Any, image: np.ndarray, sample: Any) -> np.ndarray:
    """The segments as mmseg colours them, without names of classes: ``(H, W, 3)`` uint8, BGR."""
    labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()  # (H, W)
    colours = np.zeros((int(labels.max()) + 1, 3))
    palette = visualizer.dataset_meta['palette'][: len(colours)]
    colours[: len(palette)] = palette
    picture = np.empty_like(image)
    for row, (pixels, classes) in enumerate(zip(image, labels)):
        mixed = pixels * (1 - visualizer.alpha) + colours[classes.astype(int)] * visualizer.alpha
        picture[row] = mixed[:, ::-1]
    return picture


def draw_truth(visualizer: Any, image: np.ndarray, sample: Any) -> np.ndarray:
    """Like `draw`, but return the image with its annotations drawn on it, ``(H, W, 3)`` uint8, RGB.

    Args:
        image: ``(H, W, 3)`` uint8, RGB, in the size that the annotations refer to.
        sample: from a data set of mmdet, mmseg or mmpretrain.
    """
    _paint(visualizer, image, sample, draw_gt=True, draw_pred=False)
    return visualizer.get_image()


def _paint(visualizer: Any, image: np.ndarray, sample: Any, **options: Any) -> None:
    """Call the visualizer with the options that it supports."""
    visualizer.dataset_meta = _with_colours(visualizer.dataset_meta)
    sample = _without_void(sample, visualizer)
    if hasattr(visualizer, 'visualize_cls'):  # mmpretrain's
        paint = visualizer.visualize_cls
        options['resize'] = max(_LEAST_SIDE, min(image.shape[:2]))
    else:
        paint = partial(visualizer.add_datasample, 'picture')
    known = inspect.signature(paint).parameters
    paint(image, sample, show=False, **{key: options[key] for key in options if key in known})


def _with_colours(meta: dict) -> dict:
    """Metainfo with a colour for each class: with classes of its own, a data set keeps its type's colours."""
    colours, classes = meta.get('palette'), meta.get('classes') or ()
    if not isinstance(colours, (list, tuple)) or len(colours) >= len(classes):
        return meta
    others = np.random.default_rng(0).integers(0, 256, (len(classes) - len(colours), 3))
    return {**meta, 'palette': [*colours, *map(tuple, others.tolist())]}


def _without_void(sample: Any, visualizer: Any) -> Any:
    """The sample, but without segments if mmdet, which needs one, has none to draw."""
    if 'pred_panoptic_seg' not in sample:
        return sample
    labels = sample.pred_panoptic_seg.sem_seg % SEGMENT_STEP
    if (labels < len(visualizer.dataset_meta['classes'])).any():
        return sample
    sample = sample.new()
    del sample.pred_panoptic_seg
    return sample


def picture_name(path: Path) -> Path:
    """Name of an image's picture: the same, if that format can be written, or with ``.png`` added."""
    return path if path.suffix.lower() in _WRITABLE else path.with_suffix(path.suffix + '.png')


class DrawPredictionsHook(OutputHook):
    """Write ``ground truth | prediction`` of every test image.

    mmdet's own hook overwrites pictures of the same name; mmseg's hook writes to the log folder.

    Args:
        out_dir: as in `OutputHook`.
        score_thr: detections below it are not drawn.
    """

    rename = staticmethod(picture_name)

    def __init__(self, out_dir: Path, score_thr: float = 0.3) -> None:
        super().__init__(out_dir)
        self.score_thr = score_thr

    def before_test(self, runner: Any) -> None:
        super().before_test(runner)
        self.load = loader(innermost(runner.test_dataloader.dataset)[0], 'image') or _read
        evaluate_copies(runner.test_loop.evaluator)

    def write(self, runner: Any, sample: Any, path: Path) -> None:
        image = loaded(self.load, sample.img_path)
        draw(runner.visualizer, image, sample, path, True, self.score_thr)


def loaded(load: Callable[[dict], dict], path: str) -> np.ndarray:
    """What a transform loads of a file, as `visible` shows it."""
    return visible(load({'img_path': path, 'img_id': 0})['img'])


def _read(item: dict) -> dict:
    return {'img': mmcv.imread(item['img_path'])}


def evaluate_copies(evaluator: Any) -> None:
    """Let an evaluator see copies of segments: mmdet's metric marks what is void in its own as class 0."""
    if not isinstance(evaluator.process, partial):
        evaluator.process = partial(_process_copies, evaluator.process)


def _process_copies(
    process: Callable[..., None], data_samples: list[Any], data_batch: Any = None
) -> None:
    segmented = [copy.deepcopy(s) if 'pred_panoptic_seg' in s else s for s in data_samples]
    process(segmented, data_batch)
