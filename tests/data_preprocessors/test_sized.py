"""Images of several sizes in one batch of a real detector or segmentor: what each image gives is its own."""

from __future__ import annotations

import copy
import pickle
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from tests.helpers.reduced import reduce_backbone, reduce_counts
from weightformer_mm.backbones.base import get_image_sizes
from weightformer_mm.engine.runner.loops import split_by_size

CONFIGS = Path(__file__).parents[2] / 'configs'
SIZES = [(64, 90), (97, 70), (64, 90), (33, 128), (128, 47)]
DETECTORS = (
    'mask-rcnn_pyramid-weightformer-tiny_fpn_1x',
    'retinanet_pyramid-weightformer-tiny_fpn_1x',
)


def load(pattern: str, kind: str, **options) -> Config:
    """A recipe with a small network and our preprocessor."""
    cfg = Config.fromfile(next(CONFIGS.glob(f'*/{pattern}*.py')))
    cfg.model.data_preprocessor.update(type=kind, **options)
    cfg.model.backbone.drop_path_rate = 0.0
    reduce_backbone(cfg.model)
    return cfg


def build(cfg: Config):
    scope = cfg.default_scope
    import_module(f'{scope}.models')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(cfg.model).eval()


def detection_batch(sizes):
    from mmdet.structures import DetDataSample

    torch.manual_seed(1)
    metas = [
        dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), img_id=index)
        for index, size in enumerate(sizes)
    ]
    samples = [DetDataSample(metainfo=meta) for meta in metas]
    for sample in samples:
        sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    images = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes]
    return {'inputs': images, 'data_samples': samples}


def test_a_detector_gets_the_sizes_that_its_samples_say():
    cfg = load(DETECTORS[0], 'SizedDetDataPreprocessor')
    augment = dict(type='BatchResize', scale=(48, 64), pad_size_divisor=32)
    cfg.model.data_preprocessor.batch_augments = [augment]
    preprocessor = build(cfg).data_preprocessor
    batch = preprocessor(detection_batch(SIZES[:2]), training=True)
    sizes = get_image_sizes(batch['inputs'])
    assert sizes == [sample.img_shape for sample in batch['data_samples']] != SIZES[:2]


@pytest.mark.parametrize('divisor', [None, 1])
def test_divisors_of_training_and_test(divisor):
    cfg = load(DETECTORS[0], 'SizedDetDataPreprocessor', test_pad_size_divisor=divisor)
    preprocessor = build(cfg).data_preprocessor
    for training, side in (
        (False, 97 if divisor else 128),
        (True, 128),
        (False, 97 if divisor else 128),
    ):
        batch = preprocessor(detection_batch(SIZES[1:2]), training)
        assert batch['inputs'].shape[-2] == side
        assert get_image_sizes(batch['inputs']) == SIZES[1:2]


def test_without_samples_the_images_say_their_sizes():
    preprocessor = build(load(DETECTORS[0], 'SizedDetDataPreprocessor')).data_preprocessor
    batch = preprocessor({'inputs': detection_batch(SIZES)['inputs']})
    assert get_image_sizes(batch['inputs']) == SIZES


@pytest.mark.parametrize('pattern', DETECTORS)
def test_features_of_a_padded_batch_are_those_of_each_image(pattern):
    model = build(load(pattern, 'SizedDetDataPreprocessor'))
    with torch.no_grad():
        together = model.backbone(model.data_preprocessor(detection_batch(SIZES))['inputs'])
        for index, image in enumerate(detection_batch(SIZES)['inputs']):
            alone = model.backbone(model.data_preprocessor({'inputs': [image]})['inputs'])
            sizes = model.backbone.output_sizes(SIZES[index])
            for maps, expected, (height, width) in zip(together, alone, sizes):
                part = maps[index, :, :height, :width]
                torch.testing.assert_close(
                    part, expected[0, :, :height, :width], rtol=1e-5, atol=1e-5
                )


class Kept(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {'samples': results}


def predictions(model, batch, batch_size, folder):
    """What the loop of the recipes gives its evaluator, by the index of the image."""
    keys = batch.keys()
    images = [dict(zip(keys, values)) for values in zip(*copy.deepcopy(batch).values())]
    loader = torch.utils.data.DataLoader(images, batch_size, collate_fn=pseudo_collate)
    runner = Runner(
        model,
        str(folder),
        test_dataloader=loader,
        test_cfg=dict(type='TestLoopByImageSize'),
        test_evaluator=Evaluator(Kept()),
        experiment_name=f'{folder.name}-{batch_size}',
    )
    return runner.test()['samples']


@pytest.mark.parametrize('divisor', [1, 32])
@pytest.mark.parametrize('pattern', DETECTORS)
def test_detections_are_those_of_each_image_alone(pattern, divisor, tmp_path):
    cfg = load(pattern, 'SizedDetDataPreprocessor', test_pad_size_divisor=divisor)
    reduce_counts(cfg.model)
    model, batch = build(cfg), detection_batch(SIZES)
    alone, together = (predictions(model, batch, size, tmp_path) for size in (1, len(SIZES)))
    for index, (one, other) in enumerate(zip(alone, together)):
        assert one['img_id'] == other['img_id'] == index
        expected, found = one['pred_instances'], other['pred_instances']
        assert len(found['scores']) == len(expected['scores']) > 0
        torch.testing.assert_close(found['bboxes'], expected['bboxes'], rtol=0, atol=1e-3)
        assert torch.equal(found['labels'], expected['labels'])


@pytest.mark.parametrize('divisor', [1, 32])
def test_label_maps_are_those_of_each_image_alone(divisor, tmp_path):
    from mmseg.structures import SegDataSample

    cfg = load(
        'upernet_pyramid-weightformer-tiny_8xb2-160k_ade20k-512x512', 'SizedSegDataPreprocessor'
    )
    cfg.model.decode_head.channels = 32
    cfg.model.data_preprocessor.test_cfg = dict(size_divisor=divisor)
    images = detection_batch(SIZES)['inputs']
    samples = [SegDataSample(metainfo=dict(img_shape=size, ori_shape=size)) for size in SIZES]
    model, batch = build(cfg), {'inputs': images, 'data_samples': samples}
    alone, together = (predictions(model, batch, size, tmp_path) for size in (1, len(SIZES)))
    assert len(alone) == len(together) == len(SIZES)
    for one, other in zip(alone, together):
        assert torch.equal(one['pred_sem_seg']['data'], other['pred_sem_seg']['data'])


@pytest.mark.parametrize('kind', ['SizedDetDataPreprocessor', 'SizedSegDataPreprocessor'])
def test_they_can_be_pickled(kind):
    preprocessor = MODELS.build(dict(type=kind))
    again = pickle.loads(pickle.dumps(preprocessor))
    assert type(again) is type(preprocessor)


def test_an_error_leaves_the_divisor_as_it_is():
    preprocessor = build(load(DETECTORS[0], 'SizedDetDataPreprocessor', test_pad_size_divisor=1))
    preprocessor = preprocessor.data_preprocessor
    with pytest.raises(Exception):  # noqa: B017  whatever mmdet raises
        preprocessor({'inputs': ['no image'], 'data_samples': None})
    assert preprocessor.pad_size_divisor == 32


# images of these recipes never have different sizes in a batch
ONE_SIZE = ('camvid', 'nuclei')


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('[a-z]*/*.py')), ids=lambda path: path.stem)
def test_recipes_note_sizes(path):
    model = Config.fromfile(path).model
    if model.type != 'ImageClassifier' and path.parent.name not in ONE_SIZE:
        assert model.data_preprocessor.type.startswith('Sized')


def test_a_wrapper_for_distributed_training_passes_the_sizes_on(one_process):
    from mmdet.structures.mask import BitmapMasks
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import OptimWrapper

    cfg = load(DETECTORS[0], 'SizedDetDataPreprocessor')
    reduce_counts(cfg.model)
    model, seen = build(cfg).train(), []
    model.backbone.register_forward_pre_hook(
        lambda _, inputs: seen.append(get_image_sizes(inputs[0]))
    )
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    batch = detection_batch(SIZES[:2])
    for sample in batch['data_samples']:
        sample.gt_instances.labels = torch.zeros(0, dtype=torch.long)
        sample.gt_instances.masks = BitmapMasks([], *sample.img_shape)
    MMDistributedDataParallel(model).train_step(batch, optimizer)
    assert seen == [SIZES[:2]]


def test_views_of_an_image_stay_together():
    images = detection_batch(SIZES)['inputs']
    views = {
        'inputs': [images, [image.flip(-1) for image in images]],
        'data_samples': [list('abcde')] * 2,
    }
    indices, parts = zip(*split_by_size(views))
    assert indices == ([0, 2], [1], [3], [4])
    assert [part['data_samples'] for part in parts] == [
        [list(part)] * 2 for part in ('ac', 'b', 'd', 'e')
    ]
    for part in parts:
        for image, flipped in zip(*part['inputs']):
            assert torch.equal(image.flip(-1), flipped)


def test_images_that_differ_in_one_view_do_not_share_a_batch():
    views = [[torch.zeros(3, 8, 12)] * 2, [torch.zeros(3, 16, 24), torch.zeros(3, 16, 23)]]
    batch = {'inputs': views, 'data_samples': [list('ab')] * 2}
    assert [indices for indices, _ in split_by_size(batch)] == [[0], [1]]
