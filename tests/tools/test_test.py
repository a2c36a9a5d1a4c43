"""``tools/test.py`` as a user runs it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION
from tests.helpers.pickles import Call
from weightformer_mm.datasets.shapes.classes import CLASSES


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def images(data: Path) -> set[str]:
    return {path.name for path in (data / 'images/val').iterdir()}


def test_detection_writes_coco_results_metrics_and_pictures(tools, detection, tmp_path):
    out, show = tmp_path / 'out', tmp_path / 'show'
    result = tools.run(
        'test',
        DETECTION,
        detection.checkpoint,
        *('--work-dir', tmp_path / 'work', '--out', out, '--show-dir', show),
        *detection.options(model__test_cfg__rcnn__score_thr=0.0),
    )
    assert str(out) in result.ok() and result.err == ''
    assert files(out) == {'metrics.json', 'detections.bbox.json', 'detections.segm.json'}
    metrics = json.loads((out / 'metrics.json').read_text())
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)
    masks = json.loads((out / 'detections.segm.json').read_text())
    assert {'image_id', 'category_id', 'score', 'segmentation'} <= set(masks[0])
    assert files(show) == images(detection.data)
    height, width = cv2.imread(str(detection.data / 'images/val/000000.png')).shape[:2]
    assert cv2.imread(str(show / '000000.png')).shape == (height, 2 * width, 3)


def test_only_detections_from_the_threshold_on_are_drawn(tools, detection, tmp_path):
    def predictions(threshold: float) -> np.ndarray:
        show = tmp_path / str(threshold)
        tools.run(
            'test',
            DETECTION,
            detection.checkpoint,
            *('--work-dir', tmp_path / 'work', '--show-dir', show, '--score-thr', threshold),
            *detection.options(model__test_cfg__rcnn__score_thr=0.0),
        ).ok()
        picture = cv2.imread(str(show / '000000.png'))
        return picture[:, picture.shape[1] // 2 :]

    image = cv2.imread(str(detection.data / 'images/val/000000.png')).astype(int)
    # matplotlib before 3.11 smooths the picture
    assert (
        np.abs(predictions(1.1) - image).mean() < 20 < 60 < np.abs(predictions(0.0) - image).mean()
    )


def test_segmentation_writes_labels_metrics_and_pictures(tools, segmentation, tmp_path):
    out, show = tmp_path / 'out', tmp_path / 'show'
    result = tools.run(
        'test',
        SEGMENTATION,
        segmentation.checkpoint,
        *('--work-dir', tmp_path / 'work', '--out', out, '--show-dir', show),
        *segmentation.options(),
    )
    assert result.ok() and result.err == ''
    names = images(segmentation.data)
    assert files(out) == {'metrics.json', *(f'labels/{name}' for name in names)}
    assert {'mIoU', 'aAcc', 'mAcc'} == set(json.loads((out / 'metrics.json').read_text()))
    truth = cv2.imread(str(segmentation.data / 'annotations/val/000001.png'), cv2.IMREAD_UNCHANGED)
    label = cv2.imread(str(out / 'labels/000001.png'), cv2.IMREAD_UNCHANGED)
    # as in ADE20K's files, 0 is kept for what is no class
    assert label.shape == truth.shape and set(np.unique(label)) <= set(range(1, 8))
    assert files(show) == names


def test_pictures_of_several_data_sets_keep_their_folders(tools, segmentation, tmp_path):
    config, show = tmp_path / 'both.py', tmp_path / 'show'
    cfg = Config.fromfile(SEGMENTATION)
    one = dict(cfg.test_dataloader.dataset, data_root=f'{segmentation.data}/', indices=2)
    prefix = dict(img_path='images/train', seg_map_path='annotations/train')
    around = f'{segmentation.data}/../{segmentation.data.name}/'  # another way to the same folder
    other = dict(one, data_root=around, data_prefix=prefix)
    both = dict(type='ConcatDataset', datasets=[one, other])
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset = both
    cfg.dump(config)
    arguments = ('--work-dir', tmp_path / 'work', '--show-dir', show)
    tools.run('test', config, segmentation.checkpoint, *arguments).ok()
    assert files(show) == {f'{split}/00000{i}.png' for split in ('val', 'train') for i in (0, 1)}


def nested(data: Path, folder: Path) -> Path:
    """Segmentation data with images of equal names: a/0.png, b/0.png, a/0.jpg, a/zero.png and a/ZERO.PNG."""
    for kind in ('images', 'annotations'):
        source = data / kind / 'val/000000.png'
        for name in ('a/0.png', 'b/0.png', 'a/zero.png', 'a/ZERO.png'):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / kind / name)
    return folder


def of_data(root: Path) -> list[str]:
    """``--cfg-options`` for the data of :func:`nested`."""
    place = 'test_dataloader.dataset'
    values = {
        'data_root': root,
        'data_prefix.img_path': 'images',
        'data_prefix.seg_map_path': 'annotations',
    }
    return ['--cfg-options', *(f'{place}.{key}={value}' for key, value in values.items())]


def test_images_of_equal_names_keep_their_own_files(tools, segmentation, tmp_path):
    data, out, show = (
        nested(segmentation.data, tmp_path / 'data'),
        tmp_path / 'out',
        tmp_path / 'show',
    )
    arguments = ('--work-dir', tmp_path / 'work', '--out', out, '--show-dir', show, *of_data(data))
    tools.run('test', SEGMENTATION, segmentation.checkpoint, *arguments).ok()
    names = {'a/0.png', 'b/0.png', 'a/ZERO.png', 'a/zero-2.png'}
    assert files(show) == names and files(out / 'labels') == names


def test_labels_are_those_of_mmseg(tools, segmentation, tmp_path):
    theirs, out = tmp_path / 'theirs', tmp_path / 'out'
    work = ('--work-dir', tmp_path / 'work')
    settings = segmentation.options(test_evaluator__output_dir=theirs)
    tools.run('test', SEGMENTATION, segmentation.checkpoint, *work, *settings).ok()
    # one that writes and does not evaluate, as for a test set without annotations
    settings = segmentation.options(test_evaluator__format_only=True)
    tools.run('test', SEGMENTATION, segmentation.checkpoint, *work, '--out', out, *settings).ok()
    assert files(theirs) == files(out / 'labels') == images(segmentation.data)
    for name in files(theirs):
        assert (theirs / name).read_bytes() == (out / 'labels' / name).read_bytes()


def test_a_compiled_model_has_the_metrics_of_its_own(tools, segmentation, tmp_path):
    metrics = []
    for options in ({}, {'compile__backend': 'eager'}):
        settings = segmentation.options(**options)
        work = ('--work-dir', tmp_path / 'work', '--out', tmp_path / 'out')
        said = tools.run('test', SEGMENTATION, segmentation.checkpoint, *work, *settings).ok()
        assert ('Model has been "compiled"' in said) == bool(options)
        metrics.append(json.loads((tmp_path / 'out/metrics.json').read_text()))
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize('option', ['--out', '--show-dir', '--work-dir'])
def test_a_folder_that_is_read_is_not_written_to(tools, segmentation, tmp_path, option):
    data = nested(segmentation.data, tmp_path / 'data')
    (tmp_path / 'link').symlink_to(data / 'annotations')
    before = {path: path.read_bytes() for path in data.rglob('*') if path.is_file()}
    for folder in ('data/images', 'data/images/new', 'data/none/../annotations/a', 'link'):
        settings = (option, tmp_path / folder, *of_data(data))
        line = tools.run('test', SEGMENTATION, segmentation.checkpoint, *settings).error_line()
        assert f'{option} {tmp_path / folder}: lies in {data}/' in line
    assert before == {path: path.read_bytes() for path in data.rglob('*') if path.is_file()}


def test_no_file_takes_the_place_of_what_is_read(tools, segmentation, detection, tmp_path):
    # the images lie in their folder as the pictures would below the folder above it
    data = nested(segmentation.data, tmp_path / 'data')
    work = ('--work-dir', tmp_path / 'work')
    (data / 'labels').symlink_to(data / 'annotations')
    roots = (data / 'images/a', data / 'annotations/a')
    before = {path: path.read_bytes() for path in data.rglob('*') if path.is_file()}
    line = tools.run(
        *('test', SEGMENTATION, segmentation.checkpoint, *work, '--out', data, *of_data(data))
    ).error_line()
    assert f'--out {data}/labels: lies in {data}/annotations' in line
    (tmp_path / 'show/a').mkdir(parents=True)
    os.link(roots[0] / '0.png', tmp_path / 'show/a/0.png')
    show = ('--show-dir', tmp_path / 'show')
    line = tools.run(
        *('test', SEGMENTATION, segmentation.checkpoint, *work, *show, *of_data(data))
    ).error_line()
    assert 'show/a/0.png: this file is read' in line
    (tmp_path / 'out/labels').mkdir(parents=True)
    (tmp_path / 'out/labels/a').symlink_to(tmp_path / 'show')
    out = ('--out', tmp_path / 'out')
    line = tools.run(
        *('test', SEGMENTATION, segmentation.checkpoint, *work, *out, *of_data(data))
    ).error_line()
    assert f'{tmp_path}/out/labels/a is a link' in line
    evaluator = f'test_evaluator.output_dir={data}'
    line = tools.run(
        *('test', SEGMENTATION, segmentation.checkpoint, *work, *of_data(data), evaluator)
    ).error_line()
    assert f'test_evaluator.output_dir {data}: {data}/images, which is read, lies in it' in line
    assert before == {path: path.read_bytes() for path in data.rglob('*') if path.is_file()}
    folder = detection.data / 'annotations'
    settings = (*work, '--out', folder, *detection.options())
    line = tools.run('test', DETECTION, detection.checkpoint, *settings).error_line()
    assert f'--out {folder}: {folder}/instances_val.json lies in it and is read' in line


def test_classification_writes_classes_metrics_and_pictures(tools, classification, tmp_path):
    out, show = tmp_path / 'out', tmp_path / 'show'
    result = tools.run(
        'test',
        CLASSIFICATION,
        classification.checkpoint,
        *('--work-dir', tmp_path / 'work', '--out', out, '--show-dir', show),
        *classification.options(),
    )
    assert result.ok() and result.err == ''
    names = images(classification.data)
    assert files(out) == {'metrics.json', 'classes.json'} and files(show) == names
    metrics = json.loads((out / 'metrics.json').read_text())
    predictions = json.loads((out / 'classes.json').read_text())
    assert {Path(entry['file_name']).name for entry in predictions} == names
    assert all(CLASSES[entry['label']] == entry['class'] for entry in predictions)
    assert all(1 / 6 <= entry['score'] <= 1 for entry in predictions)
    lines = (classification.data / 'annotations/classes_val.txt').read_text().splitlines()
    truth = {name: int(label) for name, label in map(str.split, lines)}
    right = [truth[Path(entry['file_name']).name] == entry['label'] for entry in predictions]
    assert metrics['accuracy/top1'] == pytest.approx(100 * np.mean(right))
    image, picture = (
        cv2.imread(str(folder / '000000.png'))
        for folder in (classification.data / 'images/val', show)
    )
    assert picture.shape == (224, 224, 3)
    assert not np.array_equal(picture, cv2.resize(image, (224, 224)))


def test_detection_tta_merges_boxes_and_masks(tools, detection, tmp_path):
    out = tmp_path / 'out'
    arguments = ('--tta', '--work-dir', tmp_path / 'work', '--out', out)
    settings = detection.options(model__test_cfg__rcnn__score_thr=0.0)
    tools.run('test', DETECTION, detection.checkpoint, *arguments, *settings).ok()
    metrics = json.loads((out / 'metrics.json').read_text())
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)
    boxes, masks = (
        json.loads((out / f'detections.{kind}.json').read_text()) for kind in ('bbox', 'segm')
    )
    assert len(boxes) == len(masks) > 0


def test_segmentation_tta(tools, segmentation, tmp_path):
    arguments = ('--tta', '--work-dir', tmp_path / 'work', '--out', tmp_path / 'out')
    settings = segmentation.options()
    log = tools.run('test', SEGMENTATION, segmentation.checkpoint, *arguments, *settings).ok()
    assert 'mIoU' in log
    assert len(files(tmp_path / 'out/labels')) == len(images(segmentation.data))


class TestRefuses:
    @pytest.fixture
    def refuse(self, tools, segmentation, tmp_path):
        def run(checkpoint: Path | None, *arguments: object) -> str:
            checkpoint = checkpoint or segmentation.checkpoint
            settings = ('--work-dir', tmp_path / 'work', *arguments, *segmentation.options())
            return tools.run('test', SEGMENTATION, checkpoint, *settings).error_line()

        return run

    def test_missing_checkpoint(self, refuse, tmp_path):
        assert f'checkpoint not found: {tmp_path}/none.pth' in refuse(tmp_path / 'none.pth')

    def test_file_that_is_no_checkpoint(self, refuse, tmp_path):
        path = tmp_path / 'some.pth'
        for content in (b'', b'text', pickle.dumps([1, 2]), pickle.dumps({'state_dict': 3})):
            path.write_bytes(content)
            assert str(path) in refuse(path)

    def test_checkpoint_that_runs_code_is_not_run(self, refuse, tmp_path):
        payload = Call(os.mkdir, str(tmp_path / 'owned'))
        torch.save({'state_dict': {}, 'payload': payload}, tmp_path / 'evil.pth')
        line = refuse(tmp_path / 'evil.pth')
        assert f'{tmp_path}/evil.pth is not loaded' in line
        assert not (tmp_path / 'owned').exists()

    def test_out_dir_that_cannot_be_made(self, refuse, tmp_path):
        (tmp_path / 'file').touch()
        for option in ('--out', '--show-dir'):
            line = refuse(None, option, tmp_path / 'file/out')
            assert f'{option} {tmp_path}/file/out: cannot write there' in line


def test_checkpoint_of_another_arch(tools, task_run, tmp_path):
    settings = ('--work-dir', tmp_path, *task_run.options(model__backbone__arch='nano'))
    line = tools.run('test', task_run.config, task_run.checkpoint, *settings).error_line()
    assert f'{task_run.checkpoint} is a checkpoint of another model' in line
    assert 'missing: backbone.' in line and 'of another shape: backbone.' in line


def test_data_of_other_classes(tools, detection):
    classes = 'test_dataloader.dataset.metainfo.classes=("disk","ring")'
    settings = [*detection.options(), classes]
    line = tools.run('test', DETECTION, detection.checkpoint, *settings).error_line()
    assert 'has num_classes=6, but CocoDataset (test_dataloader.dataset) has 2 classes' in line


def test_tta_that_the_config_lacks(tools, detection):
    arguments = ('--tta', *detection.options(tta_model=None, tta_pipeline=None))
    line = tools.run('test', DETECTION, detection.checkpoint, *arguments).error_line()
    assert f'{DETECTION} has no tta_model, tta_pipeline, which --tta needs' in line


def test_missing_test_data(tools, segmentation, tmp_path):
    settings = segmentation.options(test_dataloader__dataset__data_root=f'{tmp_path}/none/')
    line = tools.run('test', SEGMENTATION, segmentation.checkpoint, *settings).error_line()
    assert f'{tmp_path}/none' in line and 'make it with: python tools/make_shapes.py' in line
