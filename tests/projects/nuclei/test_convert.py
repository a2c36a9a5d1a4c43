"""Cell nuclei, converted and read as COCO's format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock
from pycocotools.coco import COCO

from projects.nuclei import convert_nuclei
from tests.helpers.real_layouts import write_nuclei
from weightformer_mm.datasets.generated import write_image
from weightformer_mm.errors import UserError

SIZE = (40, 56)


@pytest.fixture
def source(tmp_path) -> Path:
    write_nuclei(tmp_path / 'source', 2, SIZE)
    return tmp_path / 'source'


def names(folder: Path, split: str) -> set[str]:
    return {path.name for path in (folder / split).iterdir()}


def test_pictures_and_masks_are_those_of_the_source(tmp_path):
    masks = write_nuclei(tmp_path / 'source', 5, SIZE)
    done = convert_nuclei(tmp_path / 'source', tmp_path / 'out', 0.4, progress=False)
    assert done.pictures == {'train': 3, 'val': 2} and done.empty == 0
    seen = set()
    for split in ('train', 'val'):
        api = COCO(str(tmp_path / f'out/{split}.json'))
        assert [category['name'] for category in api.loadCats(api.getCatIds())] == ['nucleus']
        assert len(api.anns) == done.nuclei[split] and min(api.anns) == 1
        for image in api.imgs.values():
            name = Path(image['file_name']).stem
            seen.add(name)
            assert (image['height'], image['width']) == SIZE
            check_picture(tmp_path, split, name)
            check_masks(api, image['id'], masks[name])
    assert seen == set(masks)


def check_picture(folder: Path, split: str, name: str) -> None:
    """Without transparency, and grey ones with one channel."""
    before = cv2.imread(str(folder / f'source/{name}/images/{name}.png'), cv2.IMREAD_UNCHANGED)
    after = cv2.imread(str(folder / f'out/{split}/{name}.png'), cv2.IMREAD_UNCHANGED)
    assert before.shape == (*SIZE, 4)
    grey = int(name[-1]) % 2 == 1
    assert np.array_equal(after, before[..., 0] if grey else before[..., :3])


def check_masks(api: COCO, image_id: int, masks: list[np.ndarray]) -> None:
    found = api.loadAnns(api.getAnnIds(imgIds=image_id))
    assert len(found) == len(masks) > 0
    for entry, mask in zip(found, masks):
        assert np.array_equal(api.annToMask(entry), mask)
        assert entry['area'] == mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top, width, height = entry['bbox']
        assert (left, top) == (columns[0], rows[0])
        assert (left + width, top + height) == (columns[-1] + 1, rows[-1] + 1)
        assert entry['iscrowd'] == 0


def test_the_seed_decides_the_split(tmp_path):
    write_nuclei(tmp_path / 'source', 8, SIZE)
    vals = []
    for index, seed in enumerate((0, 0, 1)):
        out = tmp_path / f'out{index}'
        convert_nuclei(tmp_path / 'source', out, 0.5, seed, progress=False)
        vals.append(names(out, 'val'))
        assert len(vals[-1]) == 4 and not vals[-1] & names(out, 'train')
    assert vals[0] == vals[1] != vals[2]


def test_each_split_has_a_picture_whatever_the_share(source, tmp_path):
    for share in (0.01, 0.99):
        done = convert_nuclei(source, tmp_path / f'{share}', share, progress=False)
        assert done.pictures == {'train': 1, 'val': 1}


def test_empty_masks_are_left_out_and_counted(source, tmp_path):
    before = convert_nuclei(source, tmp_path / 'before', progress=False)
    write_image(source / 'picture0/masks/zzz.png', np.zeros(SIZE, np.uint8))
    after = convert_nuclei(source, tmp_path / 'after', progress=False)
    assert (before.empty, after.empty) == (0, 1)
    assert Counter(before.nuclei) == Counter(after.nuclei)


def without_masks(source: Path) -> None:
    for path in (source / 'picture1/masks').iterdir():
        path.unlink()


def with_a_larger_mask(source: Path) -> None:
    write_image(source / 'picture1/masks/000.png', np.zeros((41, 56), np.uint8))


def with_a_coloured_mask(source: Path) -> None:
    write_image(source / 'picture1/masks/000.png', np.zeros((*SIZE, 3), np.uint8))


def with_a_damaged_picture(source: Path) -> None:
    (source / 'picture1/images/picture1.png').write_bytes(b'no picture')


def without_a_picture(source: Path) -> None:
    (source / 'picture1/images/picture1.png').unlink()


def with_one_picture(source: Path) -> None:
    (source / 'picture1').rename(source.parent / 'elsewhere')


def without_pictures(source: Path) -> None:
    with_one_picture(source)
    (source / 'picture0').rename(source.parent / 'elsewhere too')


def without_anything(source: Path) -> None:
    source.rename(source.parent / 'elsewhere')


@pytest.mark.parametrize(
    ('harm', 'words'),
    [
        (without_masks, 'picture1/masks has no masks'),
        (with_a_larger_mask, 'picture1/masks/000.png.*41x56.*40x56'),
        (with_a_coloured_mask, 'picture1/masks/000.png.*40x56x3.*40x56'),
        (with_a_damaged_picture, 'picture1/images/picture1.png.*damaged'),
        (without_a_picture, 'picture1/images must have one PNG, has 0'),
        (with_one_picture, 'picture0.*cannot be split'),
        (without_pictures, 'has no folders'),
        (without_anything, 'no folder .*source'),
    ],
)
def test_bad_input_is_named_and_nothing_is_left(source, tmp_path, harm, words):
    harm(source)
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=words):
        convert_nuclei(source, tmp_path / 'out', progress=False)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize('share', [0.0, 1.0, -0.1, float('nan')])
def test_a_share_that_leaves_a_split_empty_is_refused(source, tmp_path, share):
    with pytest.raises(UserError, match='val-share'):
        convert_nuclei(source, tmp_path / 'out', share, progress=False)


def test_a_folder_with_files_is_left_alone(source, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/thesis.txt').write_text('dear to me')
    with pytest.raises(UserError, match='out is not an empty folder'):
        convert_nuclei(source, tmp_path / 'out', progress=False)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['thesis.txt']


def test_an_empty_folder_is_filled(source, tmp_path):
    (tmp_path / 'out').mkdir()
    convert_nuclei(source, tmp_path / 'out', progress=False)
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'train',
        'val',
        'train.json',
        'val.json',
    }


def test_one_run_at_a_time_and_what_a_killed_one_left_goes(source, tmp_path):
    left = tmp_path / '.out.partial-killed'
    (left / 'new').mkdir(parents=True)
    with FileLock(tmp_path / '.out.lock'), pytest.raises(UserError, match='another run is writing'):
        convert_nuclei(source, tmp_path / 'out', progress=False)
    convert_nuclei(source, tmp_path / 'out', progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {'source', 'out'}
