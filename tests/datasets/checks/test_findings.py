"""Each thing that can be wrong with a data set, done to a real one, is found; the set as it was passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from weightformer_mm.apis.check_dataset import check_dataset
from weightformer_mm.datasets.checks import images
from weightformer_mm.datasets.checks.report import BadData
from weightformer_mm.errors import UserError

TRAIN = ('train',)


class Broken:
    """A copy of a generated data set, to be damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / 'annotations/instances_train.json'

    def edit(self, change) -> None:
        content = json.loads(self.file.read_text())
        change(content)
        self.file.write_text(json.dumps(content))

    def image(self, index: int = 2) -> Path:
        return self.root / f'images/train/{index:06d}.png'

    def label(self, index: int = 2) -> Path:
        return self.root / f'annotations/train/{index:06d}.png'

    def edit_label(self, change) -> None:
        labels = cv2.imread(str(self.label()), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(self.label()), change(labels))

    def as_jpeg(self, cut: int = 0) -> None:
        picture = cv2.imread(str(self.image()))
        data = cv2.imencode('.jpg', picture)[1].tobytes()
        self.image().with_suffix('.jpg').write_bytes(data[: len(data) - cut])

        def rename(content):
            content['images'][2]['file_name'] = self.image().with_suffix('.jpg').name

        self.edit(rename)


@pytest.fixture
def broken(shapes, tmp_path) -> Broken:
    return Broken(Path(shutil.copytree(shapes, tmp_path / 'set')))


def found(config: Path, root: Path, capsys, options=(), everything=True, splits=TRAIN) -> str:
    """What a check prints, whether it ends well or not."""
    try:
        check_dataset(str(config), splits, everything, options, str(root))
        code = 0
    except BadData as error:
        code = error.exit_code
    out = capsys.readouterr().out
    # the exit code says errors, and nothing else does
    assert code == (0 if 'summary: no errors' in out else 1)
    return out


def lines(out: str, level: str) -> list[str]:
    return [line.strip() for line in out.splitlines() if line.strip().startswith(f'{level}: ')]


def first(content, part='annotations'):
    return content[part][0]


def second_image(broken: Broken) -> None:
    shutil.copy(broken.image(1), broken.image().with_name('other.png'))
    broken.edit(lambda c: c['images'].append(dict(c['images'][1], file_name='other.png')))


COCO_ERRORS = {
    'not_json': (
        lambda b: b.file.write_text(b.file.read_text()[:-30]),
        'annotation file: cannot be read as JSON: ',
    ),
    'a_list': (lambda b: b.file.write_text('[]'), 'not a COCO annotation file'),
    'no_categories': (
        lambda b: b.edit(lambda c: c.pop('categories')),
        'annotation file: no list of categories',
    ),
    'no_annotations': (
        lambda b: b.edit(lambda c: c.pop('annotations')),
        'annotation file: no list of annotations to train on: ',
    ),
    'no_area': (
        lambda b: b.edit(lambda c: first(c).pop('area')),
        "annotation file: annotations without 'area': id",
    ),
    'no_width': (
        lambda b: b.edit(lambda c: first(c, 'images').pop('width')),
        "annotation file: images without 'width': id",
    ),
    'image_id_twice': (
        second_image,
        'annotation file: id twice in images: 1',
    ),
    'annotation_id_twice': (
        lambda b: b.edit(lambda c: first(c).update(id=c['annotations'][1]['id'])),
        'annotation file: id twice in annotations: ',
    ),
    'nan': (
        lambda b: b.edit(lambda c: first(c).update(bbox=[1, 2, float('nan'), 4])),
        'boxes that are not four finite numbers: id',
    ),
    'three_numbers': (
        lambda b: b.edit(lambda c: first(c).update(bbox=[1, 2, 3])),
        'boxes that are not four finite numbers: id',
    ),
    'dangling_image': (
        lambda b: b.edit(lambda c: first(c).update(image_id=999)),
        'annotations: of an image that is not in the file: id',
    ),
    'dangling_category': (
        lambda b: b.edit(lambda c: first(c).update(category_id=999)),
        'annotations: of a category that is not in the file: id',
    ),
    'no_mask': (
        lambda b: b.edit(lambda c: first(c).pop('segmentation')),
        "masks: no 'segmentation', which with_mask=True needs: id",
    ),
    'mask_size': (
        lambda b: b.edit(lambda c: first(c).update(segmentation={'counts': [9], 'size': [90, 96]})),
        'masks: of another size than the image',
    ),
    'class_name': (
        lambda b: b.edit(lambda c: c['categories'][3].update(name='Square')),
        "classes: not among the categories of the file: 'square' (the file has 'Square')",
    ),
    'class_order': (
        lambda b: b.edit(lambda c: c['categories'].reverse()),
        'classes: in another order than in the file, whose order counts: predictions would be '
        "misnamed: 'cross' in the file where metainfo has 'disk'",
    ),
    'image_gone': (lambda b: b.image().unlink(), 'images: no such file: '),
    'image_garbage': (lambda b: b.image().write_bytes(b'none' * 9), 'images read: cannot be read'),
    'image_cut': (lambda b: b.as_jpeg(cut=300), 'images read: cannot be read'),
    'image_cut_at_its_end': (lambda b: b.as_jpeg(cut=2), 'images read: cannot be read'),
    'image_size': (
        lambda b: cv2.imwrite(str(b.image()), np.zeros((96, 80, 3), np.uint8)),
        'images read: of another size than the file states',
    ),
}


@pytest.mark.parametrize('case', COCO_ERRORS)
def test_errors_of_a_coco_data_set(case, broken, capsys):
    damage, expected = COCO_ERRORS[case]
    damage(broken)
    errors = lines(found(DETECTION, broken.root, capsys), 'error')
    assert len(errors) == 1 and expected in errors[0]


COCO_WARNINGS = {
    'no_width': (
        lambda c: first(c).update(bbox=[5, 5, 0, 9]),
        'boxes: less than a pixel wide or high, or of no area: ignored: id',
    ),
    'negative': (lambda c: first(c).update(bbox=[5, 5, -4, 9]), 'less than a pixel wide'),
    'sliver': (lambda c: first(c).update(bbox=[5, 5, 0.5, 9]), 'less than a pixel wide'),
    'outside': (lambda c: first(c).update(bbox=[500, 5, 9, 9]), 'boxes: outside the image'),
    'reaching_out': (lambda c: first(c).update(bbox=[50, 5, 90, 9]), 'reaching more than a pixel'),
    'no_outline': (
        lambda c: first(c).update(segmentation=[[1, 2]]),
        'masks: outlines that mmdet cannot use',
    ),
    'one_file_two_ids': (
        lambda c: c['images'].append(dict(c['images'][0], id=999)),
        'images: listed under two ids: 000000.png',
    ),
    'more_categories': (
        lambda c: c['categories'].append({'id': 99, 'name': 'moon'}),
        "classes: categories of the file that are not used: 'moon'",
    ),
}


@pytest.mark.parametrize('case', COCO_WARNINGS)
def test_warnings_of_a_coco_data_set(case, broken, capsys):
    change, expected = COCO_WARNINGS[case]
    broken.edit(change)
    out = found(DETECTION, broken.root, capsys)
    warnings = lines(out, 'warning')
    assert len(warnings) == 1 and expected in warnings[0]
    assert 'summary: no errors, 1 warning' in out


@pytest.mark.parametrize(('filtered', 'fate'), [(True, 'left out'), (False, 'used as they are')])
def test_empty_images_and_groups_are_counted(broken, capsys, filtered, fate):
    def change(content):
        kept = [entry for entry in content['annotations'] if entry['image_id'] > 1]
        kept[0]['iscrowd'] = 1
        content['annotations'] = kept

    broken.edit(change)
    option = f'train_dataloader.dataset.filter_cfg.filter_empty_gt={filtered}'
    notes = '\n'.join(lines(found(DETECTION, broken.root, capsys, [option]), 'note'))
    assert f'2 of 8 have no object; {fate}' in notes
    assert '1 of groups (iscrowd)' in notes


def test_no_image_is_left(broken, capsys):
    broken.edit(lambda content: content['annotations'].clear())
    option = 'train_dataloader.dataset.filter_cfg.filter_empty_gt=True'
    out = found(DETECTION, broken.root, capsys, [option])
    assert 'images: none is left' in lines(out, 'error')[0]


def test_evaluation_needs_what_training_does_not(broken, capsys):
    broken.file = broken.root / 'annotations/instances_val.json'
    broken.edit(lambda content: first(content).pop('iscrowd'))
    option = f'test_evaluator.ann_file={broken.root}/annotations/instances_train.json'
    out = found(DETECTION, broken.root, capsys, [option], splits=('val',))
    assert "without 'iscrowd', which the evaluation needs" in lines(out, 'error')[0]
    out = found(DETECTION, broken.root, capsys, [option], splits=('test',))
    assert any('evaluator: reads another annotation file' in line for line in lines(out, 'error'))


def over(labels):
    labels[0, 0] = 8
    return labels


SEGMENTATION_ERRORS = {
    'no_label': (lambda b: b.label().unlink(), 'labels: no label image for an image: '),
    'garbage': (lambda b: b.label().write_bytes(b'none' * 9), 'labels read: cannot be read'),
    'image_garbage': (lambda b: b.image().write_bytes(b'none' * 9), 'images read: cannot be read'),
    'value': (
        lambda b: b.edit_label(over),
        'label 8 is no class: 7 classes are numbered from 1 to 7 (reduce_zero_label: 0 is ignored)',
    ),
    'size': (
        lambda b: b.edit_label(lambda labels: labels[:50]),
        'the label image has 96x50 pixels, its image has 96x96',
    ),
    'channels': (
        lambda b: b.edit_label(lambda labels: cv2.merge([labels] * 3)),
        'pixels of mode RGB',
    ),
    'sixteen_bits': (
        lambda b: b.edit_label(lambda labels: labels.astype(np.uint16) + 256),
        'pixels of mode I',
    ),
}


@pytest.mark.parametrize('case', SEGMENTATION_ERRORS)
def test_errors_of_a_segmentation_data_set(case, broken, capsys):
    damage, expected = SEGMENTATION_ERRORS[case]
    damage(broken)
    errors = lines(found(SEGMENTATION, broken.root, capsys), 'error')
    assert len(errors) == 1 and expected in errors[0]
    assert '000002.png' in errors[0]


@pytest.mark.parametrize('value', [0, 255])
def test_an_unlabelled_image_is_a_warning(broken, capsys, value):
    broken.edit_label(lambda labels: np.full_like(labels, value))
    out = found(SEGMENTATION, broken.root, capsys)
    assert any('unlabelled: every pixel is ignored' in line for line in lines(out, 'warning'))


def test_without_shift_zero_is_a_class(broken, capsys):
    options = [
        'train_dataloader.dataset.reduce_zero_label=False',
        'train_dataloader.dataset.pipeline.1.reduce_zero_label=False',
    ]
    errors = lines(found(SEGMENTATION, broken.root, capsys, options), 'error')
    assert 'label 7 is no class: 7 classes are numbered from 0 to 6; 255 is ignored' in errors[0]


def test_a_wrong_suffix_is_named(broken, capsys):
    option = 'train_dataloader.dataset.img_suffix=.jpg'
    errors = lines(found(SEGMENTATION, broken.root, capsys, [option]), 'error')
    assert "images/train ends in '.jpg' (img_suffix)" in errors[0]


@pytest.mark.parametrize('beside_labels', [False, True])
def test_pictures_of_other_suffixes(beside_labels, broken, capsys):
    folder = broken.root / 'images/train'
    for name in ('b.JPG', 'c.jpeg', 'in/d.tif', '.hidden.jpg', 'notes.txt'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    options = []
    if beside_labels:
        for label in (broken.root / 'annotations/train').glob('*.png'):
            shutil.copy(label, folder / f'{label.stem}_labels.PNG')
        options = [
            'train_dataloader.dataset.seg_map_suffix=_labels.PNG',
            'train_dataloader.dataset.data_prefix.seg_map_path=images/train',
        ]
    out = found(SEGMENTATION, broken.root, capsys, options)
    line = "warning: images: without '.png' (img_suffix): not used (3): b.JPG; c.jpeg; in/d.tif"
    assert line in lines(out, 'warning') and not lines(out, 'error')


def test_classes_and_heads(broken, capsys):
    option = 'model.decode_head.num_classes=9'
    errors = lines(found(SEGMENTATION, broken.root, capsys, [option]), 'error')
    assert 'model.decode_head (UPerHead) has num_classes=9, but BaseSegDataset' in errors[0]
    assert 'has 7 classes: background, disk' in errors[0]


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('000000.png 6\n', 'classes: 6 is no class of 6'),
        ('gone.png 1\n', 'images: no such file'),
        ('000000.png\n', 'list of images: '),
    ],
)
def test_errors_of_a_classification_data_set(single_shapes, tmp_path, capsys, line, expected):
    root = Path(shutil.copytree(single_shapes, tmp_path / 'set'))
    file = root / 'annotations/classes_train.txt'
    file.write_text(file.read_text().rstrip('\n') + '\n' + line)
    errors = lines(found(CLASSIFICATION, root, capsys), 'error')
    assert len(errors) == 1 and expected in errors[0]


@pytest.mark.parametrize('config', [DETECTION, SEGMENTATION])
def test_a_clean_data_set_passes_through_wrappers(config, shapes, capsys, tmp_path):
    wrapped = tmp_path / 'config.py'
    wrapped.write_text(
        f'_base_ = {str(config)!r}\n'
        'inner = _base_.train_dataloader.dataset\n'
        "repeated = dict(type='RepeatDataset', times=2, dataset=inner)\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', "
        'datasets=[repeated, inner]))\n'
    )
    out = found(wrapped, shapes, capsys, splits=('train', 'val', 'test'))
    assert not lines(out, 'error')
    assert 'train.datasets.0.dataset, train.datasets.1: ' in out and '\nval, test: ' in out


def test_a_sample_is_read_unless_all_are_asked_for(broken, capsys, monkeypatch):
    monkeypatch.setattr(images, 'SAMPLE', 4)
    broken.image(1).write_bytes(b'none' * 9)  # 0, 2, 4, 6 are the sample
    out = found(DETECTION, broken.root, capsys, everything=False)
    assert '4 of 8' in out and not lines(out, 'error')
    out = found(DETECTION, broken.root, capsys)
    assert 'images read: cannot be read: ' in lines(out, 'error')[0]


def test_missing_data(broken, capsys, tmp_path):
    shutil.rmtree(broken.root / 'images/val')
    out = found(DETECTION, broken.root, capsys, splits=('train', 'val'))
    assert 'error: layout: missing: ' in out and f'{broken.root}/images/val not found' in out
    assert 'train: CocoDataset' in out
    with pytest.raises(UserError, match='none not found') as error:
        check_dataset(str(DETECTION), data_root=str(tmp_path / 'none'))
    assert error.value.exit_code == 2
