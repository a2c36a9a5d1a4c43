"""Pictures show what a pipeline's own loader reads: any channels, any type, turned or not."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from PIL import Image

from tests.helpers.commands import DETECTION, SEGMENTATION
from weightformer_mm.apis import Inferencer
from weightformer_mm.apis.browse import browse
from weightformer_mm.apis.check_dataset import check_dataset
from weightformer_mm.apis.test import evaluate
from weightformer_mm.datasets.checks.classes import trained_meta
from weightformer_mm.datasets.checks.pixels import deep_pixels
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError
from weightformer_mm.evaluation.predictions import as_plain
from weightformer_mm.visualization import drawing
from weightformer_mm.visualization.drawing import _process_copies, draw, draw_truth, visible

SIZE = (48, 64)


def ramp(channels: int, kind: type, top: float) -> np.ndarray:
    values = np.linspace(0, top, num=SIZE[0] * SIZE[1] * channels).reshape(*SIZE, channels)
    return values.astype(kind)


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ('kind', 'top'),
    [(np.uint8, 255), (np.uint16, 4095), (np.uint16, 200), (np.float32, 1), (np.float32, -7)],
)
def test_all_kinds_of_images_can_be_seen(kind, top, channels):
    image = visible(ramp(channels, kind, top))
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert image.min() <= 4 and image.max() >= 250


def test_bytes_as_floats_stay_and_channels_are_turned():
    image = ramp(3, np.uint8, 200)
    assert np.array_equal(visible(image), image[..., ::-1])
    assert np.array_equal(visible(image.astype(np.float32) - 0.2), image[..., ::-1])
    assert np.array_equal(visible(image, is_rgb=True), image)
    assert np.array_equal(visible(image[..., 0]), np.repeat(image[..., :1], 3, axis=2))
    broken = np.full((*SIZE, 1), np.nan, np.float32)
    assert not visible(broken).any()


def test_chosen_bands_are_red_green_and_blue():
    image = ramp(5, np.uint8, 200)
    assert np.array_equal(visible(image, bands=(4, 0, 2)), image[..., [4, 0, 2]])
    assert np.array_equal(visible(image[..., :3], bands=(2, 1, 0)), visible(image[..., :3]))
    assert np.array_equal(visible(image[..., 3], bands=(0, 0, 0)), visible(image[..., 3]))
    for wrong in ((0, 1, 5), (0, -1, 2), (0, 1)):
        with pytest.raises(UserError, match=r'--bands .*: expected three, each from 0 to 4'):
            visible(image, bands=wrong)


# file, values, loading
KINDS = {
    'grey': ('image.png', ramp(1, np.uint8, 250), {'color_type': 'grayscale'}),
    'RGBA': ('image.png', ramp(4, np.uint8, 250), {'color_type': 'unchanged'}),
    '16 bits': ('image.png', ramp(3, np.uint16, 4095), {'color_type': 'unchanged'}),
    '5 bands': (
        'image.tif',
        ramp(5, np.uint8, 250),
        {'color_type': 'unchanged', 'imdecode_backend': 'tifffile'},
    ),
    'floats': ('image.tif', ramp(1, np.float32, 0.5), {'color_type': 'unchanged'}),
}


def save(path, values) -> None:
    if path.suffix == '.tif':
        tifffile = pytest.importorskip('tifffile')
        tifffile.imwrite(path, values.squeeze())
    else:
        cv2.imwrite(str(path), values)


@pytest.fixture(params=KINDS)
def other(request, tmp_path) -> tuple[Config, str]:
    """A config, its checkpoint and a set of one image of this kind."""
    name, values, loading = KINDS[request.param]
    suffix, channels = name[-4:], values.shape[2]
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()
    save(tmp_path / 'images' / name, values)
    cv2.imwrite(str(tmp_path / 'labels/image.png'), np.full(SIZE, 2, np.uint8))
    cfg = Config.fromfile(SEGMENTATION)
    cfg.model.backbone.in_channels = channels
    cfg.model.data_preprocessor.update(mean=[0.0], std=[255.0], bgr_to_rgb=False)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            img_suffix=suffix,
        )
        loader.dataset.pipeline[0].update(loading)
    cfg.train_dataloader.dataset.pipeline[2:-1] = []
    cfg.data_root = str(tmp_path)
    cfg.dump(tmp_path / 'config.py')
    return cfg, str(tmp_path / 'config.py')


def test_inferred_browsed_and_evaluated(other, tmp_path):
    _, config = other
    (source,) = (tmp_path / 'images').iterdir()
    inferencer = Inferencer(config, device='cpu')
    assert len(inferencer(source, tmp_path / 'seen')) == 1
    picture = next(path for path in (tmp_path / 'seen').iterdir() if path.suffix == '.png')
    assert cv2.imread(str(picture)).shape == (*SIZE, 3)
    for split in ('train', 'val'):
        sheet = browse(config, str(tmp_path / f'{split}.png'), split, 1)
        assert cv2.imread(str(sheet)).std() > 10
    weights = {'state_dict': inferencer.model.state_dict()}
    torch.save(weights, tmp_path / 'weights.pth')
    evaluate(config, str(tmp_path / 'weights.pth'), str(tmp_path), show_dir=str(tmp_path / 'show'))
    (shown,) = (tmp_path / 'show').iterdir()
    assert cv2.imread(str(shown)).shape == (SIZE[0], 2 * SIZE[1], 3)


@pytest.mark.parametrize('other', ['5 bands'], indirect=True)
def test_pictures_show_the_bands_that_are_chosen(other, tmp_path, monkeypatch):
    _, config = other
    inferencer = Inferencer(config, device='cpu')
    monkeypatch.setattr(drawing, '_MOST_PIXELS', 0)
    inferencer.visualizer.alpha = 0  # the colours of the classes cannot be seen
    source = tmp_path / 'images/image.tif'
    inferencer([source], tmp_path / 'seen', bands=(4, 0, 2))
    picture = cv2.imread(str(tmp_path / 'seen/image.tif.png'))
    assert np.array_equal(picture[..., ::-1], ramp(5, np.uint8, 250)[..., [4, 0, 2]])
    with pytest.raises(UserError, match='--bands 5 0 2: expected three, each from 0 to 4'):
        inferencer([source], tmp_path / 'none', bands=(5, 0, 2))
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize('turns', [True, False])
def test_a_turned_photo_is_drawn_as_the_pipeline_reads_it(turns, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(ramp(3, np.uint8, 250)).save(tmp_path / 'photo.jpg', exif=exif)
    kind = 'color' if turns else 'color_ignore_orientation'
    option = f'test_dataloader.dataset.pipeline.0.color_type={kind}'
    options = [option, 'model.test_cfg.rcnn.score_thr=0.0']
    seen = Inferencer(DETECTION, device='cpu', options=options)
    assert seen(tmp_path / 'photo.jpg', tmp_path / 'out', score_thr=0.0)
    height, width = cv2.imread(str(tmp_path / 'out/photo.jpg')).shape[:2]
    assert (height, width) == (SIZE[::-1] if turns else SIZE)


DEEP = {'16 bits': ('image.png', ramp(3, np.uint16, 4095)), 'floats': KINDS['floats'][:2]}


@pytest.fixture(params=DEEP)
def deep(request, shapes, tmp_path):
    """A set whose first training image has values that loading as colours loses."""
    name, values = DEEP[request.param]
    for split in ('train', 'val'):
        (tmp_path / f'images/{split}').mkdir(parents=True)
        (tmp_path / f'annotations/{split}').mkdir(parents=True)
        save(tmp_path / f'images/{split}' / name, values)
        cv2.imwrite(str(tmp_path / f'annotations/{split}/image.png'), np.full(SIZE, 2, np.uint8))
    return name


def test_lost_bits_are_told(deep, tmp_path, caplog, capsys):
    suffix = [f'{s}_dataloader.dataset.img_suffix={deep[-4:]}' for s in ('train', 'val')]
    unreadable = deep.endswith('.tif')
    try:
        check_dataset(str(SEGMENTATION), ('train',), options=suffix[:1], data_root=str(tmp_path))
    except UserError:
        assert unreadable
    kind = 'float32' if unreadable else 'uint16'
    assert f'{kind} pixels, which loading makes 8 bits or cannot read' in capsys.readouterr().out
    from weightformer_mm.config.read import load_config

    cfg = load_config(SEGMENTATION, suffix, tmp_path)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    if unreadable:
        with pytest.raises(UserError, match='float32 pixels'):
            CheckedRunner.build_dataloader(cfg.train_dataloader)
        return
    with caplog.at_level(logging.WARNING, 'weightformer_mm'):
        CheckedRunner.build_dataloader(cfg.train_dataloader)
    assert 'uint16 pixels' in caplog.text
    Inferencer(SEGMENTATION, device='cpu')(tmp_path / 'images/train', tmp_path / 'out')
    assert 'uint16 pixels' in capsys.readouterr().out


def test_what_is_kept_is_noted(tmp_path):
    save(tmp_path / 'a.png', ramp(1, np.uint16, 4095))
    note, is_lost = deep_pixels(str(tmp_path / 'a.png'), ramp(1, np.uint16, 4095))
    assert 'uint16 pixels; mean and std' in note and not is_lost
    as_floats = ramp(1, np.float32, 15)  # to_float32 after 8 bits
    assert deep_pixels(str(tmp_path / 'a.png'), as_floats)[1]
    save(tmp_path / 'b.png', ramp(1, np.uint8, 255))
    assert deep_pixels(str(tmp_path / 'b.png'), ramp(1, np.uint8, 255)) is None
    assert deep_pixels('s3://bucket/a.png', None) is None


class Metric:
    """As mmdet's: void, the number after the last class, becomes 0 in the sample itself."""

    def process(self, data_samples, data_batch) -> None:
        for sample in data_samples:
            labels = sample.pred_panoptic_seg.sem_seg
            labels[labels % 1000 == 2] = 0


def panoptic(*rows):
    from mmdet.structures import DetDataSample

    seg = PixelData(sem_seg=torch.tensor([[*map(list, rows)]]).repeat_interleave(16, 1))
    return DetDataSample(pred_panoptic_seg=seg)


def test_a_metric_does_not_change_what_is_drawn():
    sample = panoptic([0] * 16, [2] * 16)
    _process_copies(Metric().process, [sample])
    assert sample.pred_panoptic_seg.sem_seg.unique().tolist() == [0, 2]


def test_segments_as_plain_values():
    sample = panoptic([0] * 16, [1000] * 16, [2] * 16, [1] * 16)
    plain = as_plain(sample, ('thing', 'stuff'))
    assert plain['labels'] == [0, 1, 0] and plain['names'] == ['thing', 'stuff', 'thing']
    assert plain['pixels'] == [256] * 3 and len(plain['masks']) == 3


@pytest.mark.parametrize('label', [0, 2])
def test_void_is_not_drawn(label, tmp_path):
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(name=f'void{label}')
    visualizer.dataset_meta = {'classes': ('thing', 'stuff'), 'palette': [(255, 0, 0), (0, 255, 0)]}
    image = np.full((32, 16, 3), 100, np.uint8)
    sample = panoptic([label] * 16, [label] * 16)
    draw(visualizer, image, sample, tmp_path / 'a.png', False, 0.3)
    assert (cv2.imread(str(tmp_path / 'a.png')) == 100).all() == (label == 2)
    assert 'pred_panoptic_seg' in sample


def test_classes_without_a_colour_get_one(tmp_path):
    """A set of more classes than COCO has keeps COCO's colours, and so do its checkpoints."""
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer

    meta = {'classes': ('a', 'b', 'c'), 'palette': [(255, 0, 0)]}
    truth = InstanceData(bboxes=torch.tensor([[4.0, 4, 40, 40]] * 3), labels=torch.arange(3))
    visualizer = DetLocalVisualizer(name='colours')
    visualizer.dataset_meta = meta
    image = np.zeros((64, 64, 3), np.uint8)
    assert draw_truth(visualizer, image, DetDataSample(gt_instances=truth)).any()
    model = torch.nn.Module()
    model.num_classes = 3
    assert trained_meta({'meta': {'dataset_meta': meta}}, 'a.pth', model) == meta
