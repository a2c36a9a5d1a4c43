from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile, Resize
from mmengine.dataset import BaseDataset, RepeatDataset
from torch.utils.data import DataLoader

from weightformer_mm.engine import UserError
from weightformer_mm.engine.image_guard import NamedLoading, image_problem, name_unreadable_images
from weightformer_mm.engine.translate import explain


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


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('content', [b'', b'nothing', None], ids=['empty', 'garbage', 'truncated'])
def test_unreadable_image_is_named(image, content, backend, workers):
    image.write_bytes(image.read_bytes()[:-200] if content is None else content)
    dataset = RepeatDataset(images(image), 2)
    dataset.dataset.pipeline.transforms[0].imdecode_backend = backend
    name_unreadable_images(dataset)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    with pytest.raises(UserError) as caught:
        next(iter(loader))
    message = str(explain(caught.value))
    assert message.startswith(f'cannot read the image {image}: ') and '\n' not in message


def test_other_failures_stay_what_they_are(image):
    class LoadWrongly:
        def __call__(self, results):
            raise RuntimeError('a bug')

    with pytest.raises(RuntimeError, match='a bug'):
        NamedLoading(LoadWrongly())({'img_path': str(image)})


def test_problems(image, tmp_path):
    assert image_problem(str(image)) is None
    assert image_problem('s3://bucket/image.png') is None
    assert image_problem(str(tmp_path / 'none.png')) == 'no such file'
