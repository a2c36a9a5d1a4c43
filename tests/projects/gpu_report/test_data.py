"""Both sets in the layouts of the recipes, as JPEG, no larger than allowed."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from projects.gpu_report import data
from projects.gpu_report.data import images_of, prepare
from projects.gpu_report.training import config_of
from tests.helpers.real_layouts import make_camvid, make_nuclei
from weightformer_mm.errors import UserError


@pytest.fixture
def sources(tmp_path):
    make_camvid(tmp_path / 'camvid', train=3, val=2, size=(48, 64))
    make_nuclei(tmp_path / 'nuclei', 2, 1, (40, 56))
    return dict(camvid=tmp_path / 'camvid', nuclei=tmp_path / 'nuclei')


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(float)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())


def test_pictures_labels_and_names_are_those_of_the_sources(sources, tmp_path, capsys):
    prepare(tmp_path / 'new' / 'out', **sources)
    out = tmp_path / 'new' / 'out'
    assert f'8 pictures, JPEG quality 95, {size_of(out) / 1e6:.1f} MB' in capsys.readouterr().out
    for name, root in sources.items():
        for split in ('train', 'val'):
            for path in (root / split).iterdir():
                before, after = read(path), read(out / name / split / f'{path.stem}.jpg')
                assert before.shape == after.shape  # grey pictures keep one channel
                assert np.abs(before - after).mean() < 10  # the noise of these loses its colour
    for path in (sources['camvid'] / 'trainannot').iterdir():
        assert (out / 'camvid/trainannot' / path.name).read_bytes() == path.read_bytes()
    for split in ('train', 'val'):
        old, new = (
            json.loads((r / f'{split}.json').read_text())
            for r in (sources['nuclei'], out / 'nuclei')
        )
        assert new['annotations'] == old['annotations']
        assert {image['file_name'] for image in new['images']} == {
            path.name for path in (out / 'nuclei' / split).iterdir()
        }


def test_the_best_quality_that_fits(sources, tmp_path, capsys):
    prepare(tmp_path / 'whole', **sources)
    whole = size_of(tmp_path / 'whole')
    prepare(tmp_path / 'less', **sources, most=int(0.9 * whole))
    assert size_of(tmp_path / 'less') <= 0.9 * whole
    assert 'quality 95' not in capsys.readouterr().out.splitlines()[1]
    with pytest.raises(UserError, match='do not fit'):
        prepare(tmp_path / 'none', **sources, most=1000)
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(
    ('harm', 'expected'),
    [
        (
            lambda root: (root / 'camvid/train/0000.png').write_bytes(b'no'),
            '0000.png: not a picture',
        ),
        (lambda root: (root / 'camvid/valannot').rename(root / 'x'), '--camvid .*valannot'),
        (lambda root: (root / 'nuclei/val.json').unlink(), '--nuclei .*no file .*val.json'),
        (
            lambda root: (root / 'nuclei/val.json').write_text('{'),
            "val.json: not annotations in COCO's",
        ),
        (
            lambda root: (root / 'nuclei/val.json').write_text('[]'),
            "val.json: not annotations in COCO's",
        ),
        (lambda root: (root / 'out').mkdir() or (root / 'out/file').touch(), 'not an empty folder'),
    ],
    ids=['picture', 'folder', 'annotations', 'json', 'list', 'out'],
)
def test_bad_input_leaves_nothing_behind(sources, tmp_path, harm, expected):
    harm(tmp_path)
    with pytest.raises(UserError, match=expected):
        prepare(tmp_path / 'out', **sources)
    assert not (tmp_path / 'out' / 'camvid').exists()


@pytest.mark.parametrize(('name', 'batch', 'images'), [('camvid', 8, 3), ('nuclei', 4, 2)])
def test_recipes_train_on_it_for_300_iterations(sources, tmp_path, name, batch, images):
    prepare(tmp_path / 'out', **sources)
    assert images_of(tmp_path / 'out' / name / 'train') == images
    cfg = config_of(name, tmp_path / 'out', rehearse=False)
    assert cfg.train_dataloader.batch_size == batch
    assert (
        cfg.train_cfg.max_epochs == cfg.train_cfg.val_interval == 300
    )  # an epoch is one iteration
    assert cfg.model.backbone.backend == 'triton' and cfg.model.backbone.arch == 'tiny'
    assert cfg.train_dataloader.dataset.data_root.rstrip('/') == str(tmp_path / 'out' / name)
    assert data.IMAGES == '.jpg'


def test_without_pictures_it_is_said_how_to_get_them(tmp_path):
    with pytest.raises(UserError, match='--prepare'):
        config_of('camvid', tmp_path / 'nothing', rehearse=False)
