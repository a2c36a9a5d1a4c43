from __future__ import annotations

import os
import pickle

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile, Resize
from mmengine.dataset import BaseDataset, RepeatDataset
from torch.utils.data import DataLoader

from weightformer_mm.datasets.checks.named_loading import NamedLoading
from weightformer_mm.datasets.checks.pixels import image_problem
from weightformer_mm.datasets.guards.loading import name_unreadable_images
from weightformer_mm.errors import UserError
from weightformer_mm.utils.translate import explain

CONTENTS = {
    'empty': lambda data: b'',
    'garbage': lambda data: b'nothing',
    'truncated': lambda data: data[:-200],
}


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    return path


class Images(BaseDataset):
    def load_data_list(self):
        return [{'img_path': path} for path in self.ann_file.split(';')]


def images(*paths, **options) -> Images:
    pipeline = [LoadImageFromFile(), Resize((8, 8))]
    return Images(';'.join(map(str, paths)), pipeline=pipeline, **options)


def test_readable_images_load_as_before(image):
    plain, guarded = images(image), images(image)
    name_unreadable_images(guarded)
    assert np.array_equal(plain[0]['img'], guarded[0]['img'])
    assert isinstance(pickle.loads(pickle.dumps(guarded)).pipeline.transforms[0], NamedLoading)


@pytest.mark.parametrize(
    ('content', 'backend', 'workers'),
    [
        *((content, backend, 0) for content in CONTENTS for backend in ('cv2', 'pillow')),
        ('garbage', 'cv2', 1),
    ],
)
def test_unreadable_image_is_named(image, content, backend, workers):
    image.write_bytes(CONTENTS[content](image.read_bytes()))
    dataset = RepeatDataset(images(image), 2)
    dataset.dataset.pipeline.transforms[0].imdecode_backend = backend
    name_unreadable_images(dataset)
    loader = iter(DataLoader(dataset, batch_size=None, num_workers=workers))
    with pytest.raises(UserError) as caught:
        next(loader)
    if workers:  # PyTorch would wait 5 s for it
        loader._workers[0].terminate()
    message = str(explain(caught.value))
    assert message.startswith(f'cannot read the image {image}: ') and '\n' not in message


def test_other_failures_stay_what_they_are(image):
    class LoadWrongly:
        def __call__(self, results):
            raise RuntimeError('a bug')

    with pytest.raises(RuntimeError, match='a bug'):
        NamedLoading(LoadWrongly())({'img_path': str(image)})


def test_images_of_another_file_system_are_not_looked_for_on_disk():
    class LoadFromStore:  # as LoadImageFromFile with backend_args=dict(backend='lmdb') does
        def __call__(self, results):
            return {**results, 'img': np.zeros((2, 2, 3), np.uint8)}

    results = {'img_path': 'data/coco/000009.jpg'}
    assert NamedLoading(LoadFromStore())(results)['img'].shape == (2, 2, 3)


def test_problems(image, tmp_path):
    assert image_problem(str(image)) is None
    assert image_problem('s3://bucket/image.png') is None
    assert image_problem(str(tmp_path / 'none.png')) == 'No such file or directory'


def test_an_image_that_opencv_cannot_read_is_not_called_damaged(tmp_path):
    values = np.arange(64, dtype=np.uint32).reshape(8, 8)
    pytest.importorskip('tifffile').imwrite(tmp_path / 'deep.tif', values)
    if cv2.imread(str(tmp_path / 'deep.tif'), cv2.IMREAD_UNCHANGED) is None:
        problem = image_problem(str(tmp_path / 'deep.tif'))
        assert problem.startswith('TIFF of mode I, which OpenCV cannot read: convert it')


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / 'image.png')
    dataset = images(tmp_path / 'image.png')
    name_unreadable_images(dataset)
    with pytest.raises(UserError, match='image.png: neither a file nor a folder'):
        dataset[0]


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_pixels_that_are_no_numbers(value, tmp_path):
    path = tmp_path / 'image.tif'
    pixels = np.ones((5, 7, 3), np.float32)
    pixels[2, 3, 1] = value
    pytest.importorskip('tifffile').imwrite(path, pixels)
    load = LoadImageFromFile(color_type='unchanged', to_float32=True)
    with pytest.raises(UserError, match='image.tif: some pixels are not finite numbers'):
        NamedLoading(load)({'img_path': str(path)})
