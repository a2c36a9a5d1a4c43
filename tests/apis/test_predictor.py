"""Batches and half precision give what one image at a time gives in float32."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.apis.test_inference import CONFIGS, options, values
from tests.helpers.commands import SEGMENTATION
from weightformer_mm.apis import Inferencer, init_model, lazy_maps
from weightformer_mm.apis.predictor import Predictor, achieved
from weightformer_mm.errors import UserError

SIZES = [(64, 96), (80, 64), (64, 96), (64, 96), (80, 64)]
EPS = 2.0**-23


@pytest.fixture(params=CONFIGS)
def model(request):
    torch.manual_seed(0)
    return init_model(CONFIGS[request.param], device='cpu', options=options(request.param))


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def run_sizes(model) -> list[int]:
    """A list that gets the number of images of each run."""
    sizes = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    return sizes


def assert_alike(found, expected) -> None:
    """Another order of a sum of n terms changes it by up to n * eps; the longest here has some 1000 terms."""
    assert type(found) is type(expected) and found.ori_shape == expected.ori_shape
    assert values(found).numel()
    torch.testing.assert_close(values(found), values(expected), rtol=1e3 * EPS, atol=1e3 * EPS)


def test_images_of_one_size_run_together_and_none_is_padded(model, images):
    predictor, sizes = Predictor(model), run_sizes(model)
    alone = list(predictor(images))
    assert sizes == [1] * 5
    del sizes[:]
    for found, expected in zip(predictor(images, batch_size=4), alone):
        assert_alike(found, expected)
    assert sizes == [3, 1, 1]


def test_what_cannot_be_read_keeps_its_place(images, tmp_path):
    predictor = Predictor(init_model(SEGMENTATION, device='cpu'))
    (tmp_path / 'bad.png').write_bytes(b'nothing')
    batch = [images[0], tmp_path / 'bad.png', images[1], np.zeros((8, 8)), images[2]]
    outcomes = list(predictor(batch, batch_size=5))
    assert [isinstance(found, UserError) for found in outcomes] == [False, True, False, True, False]
    for index in (0, 2, 4):
        assert_alike(outcomes[index], *predictor([batch[index]]))
    with pytest.raises(UserError, match='bad.png: not an image'):
        achieved(outcomes[1])


def test_a_batch_that_does_not_fit_runs_image_by_image(images):
    model = init_model(SEGMENTATION, device='cpu')
    predictor, sizes = Predictor(model), run_sizes(model)
    expected = list(predictor(images))

    def refuse(module, inputs):
        if len(inputs[0]) > 1 or inputs[0].shape[2] == 80:
            raise RuntimeError('out of memory')

    model.backbone.register_forward_pre_hook(refuse)
    del sizes[:]
    outcomes = list(predictor(images, batch_size=5))
    assert sizes == [3, 1, 1, 1, 2, 1, 1]
    for index, (found, sample) in enumerate(zip(outcomes, expected)):
        if SIZES[index] == (80, 64):
            assert str(found) == 'out of memory'
        else:
            assert_alike(found, sample)


def test_half_precision(model, images):
    expected = list(Predictor(model)(images))
    computed = set()
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(lambda module, inputs, output: computed.add(output.dtype))
    found = list(Predictor(model, half=True)(images, batch_size=5))
    assert torch.bfloat16 in computed
    for sample, whole in zip(found, expected):
        assert values(sample).dtype == torch.float32 and values(sample).isfinite().all()
        if 'pred_instances' in sample:
            assert len(sample.pred_instances)
            continue
        difference = (values(sample) - values(whole)).norm() / values(whole).norm()
        assert 0 < difference < 16 * 2**-8  # a unit of bfloat16 in each of 16 layers in a row


def test_strips_in_half_precision(images, monkeypatch):
    torch.manual_seed(0)
    model = init_model(SEGMENTATION, device='cpu')
    monkeypatch.setattr(lazy_maps, 'MAX_TOKENS', 500)
    (whole,), (found,) = (
        Predictor(model, strips=strips, half=True)(images[:1]) for strips in (False, True)
    )
    same = found.pred_sem_seg.data == whole.pred_sem_seg.data
    logits = whole.seg_logits.data.topk(2, dim=0).values
    clear = logits[0] - logits[1] > 2**-7 * logits[0].abs().max()
    assert clear.float().mean() > 0.5 and same[clear[None]].all()


@pytest.mark.parametrize(
    ('wrong', 'line'),
    [
        ({'save': 'text'}, '--save text: expected some of picture, label, json'),
        ({'save': ()}, '--save : expected some of'),
        ({'batch_size': 0}, '--batch-size 0: expected 1 or more'),
        ({'batch_size': 2}, '--batch-size 2: strips are of one image at a time'),
        ({'bands': (0, 1, 3)}, '--bands 0 1 3: expected three, each from 0 to 2'),
        ({'bands': (0, 1)}, '--bands 0 1: expected three'),
    ],
)
def test_what_is_wrong_is_told_before_the_first_image(wrong, line, images, tmp_path):
    inferencer = Inferencer(SEGMENTATION, device='cpu', strips='batch_size' in wrong)
    sizes = run_sizes(inferencer.model)
    with pytest.raises(UserError, match=line):
        inferencer(images, tmp_path / 'out', **wrong)
    assert not sizes and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_labels_are_of_segmentors(task, images, tmp_path):
    inferencer = Inferencer(CONFIGS[task], device='cpu')
    with pytest.raises(
        UserError, match=r'--save label: (MaskRCNN|ImageClassifier) is no segmentor'
    ):
        inferencer(images, tmp_path / 'out', save='label')
    assert not (tmp_path / 'out').exists()


def test_a_label_image_has_the_classes_and_no_name_is_taken_twice(tmp_path):
    """``a.png`` has its labels in ``labels/a.png``, where the picture of an image of that name is."""
    rng, folder = np.random.default_rng(0), tmp_path / 'images'
    (folder / 'labels').mkdir(parents=True)
    for name in ('a.png', 'labels/a.png'):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (48, 64, 3), np.uint8))
    inferencer = Inferencer(SEGMENTATION, device='cpu')
    found = inferencer(folder, tmp_path / 'all', save=('label', 'picture', 'json'))
    written = {
        path.relative_to(tmp_path / 'all').as_posix()
        for path in (tmp_path / 'all').rglob('*')
        if path.is_file()
    }
    pictures = {'a.png', 'labels/a.png', 'labels/a-2.png', 'labels/labels/a.png'}
    assert written == {*pictures, 'predictions.json'}
    labels = cv2.imread(str(tmp_path / 'all/labels/a-2.png'), cv2.IMREAD_UNCHANGED)
    counted = [int((labels == label + 1).sum()) for label in found[0]['labels']]  # files begin at 1
    assert counted == found[0]['pixels'] and sum(counted) == labels.size == 48 * 64
    inferencer(folder / 'a.png', tmp_path / 'one', save='label')
    (label,) = (path for path in (tmp_path / 'one').rglob('*') if path.is_file())
    assert label == tmp_path / 'one/labels/a.png'
    assert np.array_equal(cv2.imread(str(label), cv2.IMREAD_UNCHANGED), labels)
    inferencer(folder / 'a.png', tmp_path / 'values', save='json')
    assert [path.name for path in (tmp_path / 'values').iterdir()] == ['predictions.json']


def test_an_image_of_other_channels_than_the_means_is_named(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((64, 64, 4), np.uint8))
    unchanged = ['test_dataloader.dataset.pipeline.0.color_type=unchanged']
    (outcome,) = Predictor(init_model(SEGMENTATION, device='cpu', options=unchanged))(
        [tmp_path / 'a.png']
    )
    assert 'channels: 4; the data preprocessor has means of 3' in str(outcome)
