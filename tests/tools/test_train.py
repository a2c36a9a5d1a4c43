"""``tools/train.py`` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config

from tests.helpers.commands import (
    CLASSIFICATION,
    DETECTION,
    ROOT,
    SEGMENTATION,
    Fork,
    Result,
    options,
)


@pytest.fixture
def data_copy(shapes, tmp_path) -> Path:
    """A copy of the data set to be damaged."""
    return Path(shutil.copytree(shapes, tmp_path / 'shapes'))


def iterations(log: str) -> list[int]:
    return [int(number) for number in re.findall(r'INFO - Epoch\(train\).*\[\s*(\d+)/', log)]


def test_trains_every_task(task_run):
    assert task_run.checkpoint.is_file()
    assert (task_run.work_dir / 'last_checkpoint').read_text() == str(task_run.checkpoint)
    assert task_run.result.err == ''
    assert len(iterations(task_run.result.out)) == 2
    assert re.search(r'(coco/segm_mAP|mIoU|accuracy/top1): \d', task_run.result.out)


def test_checkpoints_hold_tensors_and_plain_values_alone(task_run, no_safe_globals):
    checkpoint = torch.load(task_run.checkpoint, weights_only=True)
    assert {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'} <= set(checkpoint)


def test_averaged_weights_and_tensorboard_are_one_option_each(tools, shapes, tmp_path):
    pytest.importorskip('tensorboard')
    changes = options(
        SEGMENTATION,
        shapes,
        default_hooks__ema__type='EMAHook',
        visualizer__vis_backends__1__type='TensorboardVisBackend',
    )
    tools.run('train', SEGMENTATION, '--work-dir', tmp_path, *changes).ok()
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    averaged, latest = checkpoint['state_dict'], checkpoint['ema_state_dict']
    learned = {name for name in averaged if name.endswith('weight')}
    differing = {n for n in learned if not torch.equal(averaged[n], latest[f'module.{n}'])}
    assert len(differing) > len(learned) / 2
    assert list(tmp_path.glob('*/vis_data/scalars.json'))
    assert list(tmp_path.glob('*/vis_data/*tfevents*'))

    evaluated = options(SEGMENTATION, shapes)
    tools.run(
        'test', SEGMENTATION, tmp_path / 'epoch_1.pth', '--work-dir', tmp_path, *evaluated
    ).ok()
    changes[-1:] = [*changes[-1:], 'train_cfg.max_epochs=2']
    again = tools.run('train', SEGMENTATION, '--work-dir', tmp_path, '--resume', *changes).ok()
    assert 'Continuing from' in again


def test_logger_whose_package_is_missing_is_said_in_one_line(tools, shapes, tmp_path):
    folder = tmp_path / 'hidden' / 'wandb'
    folder.mkdir(parents=True)
    (folder / '__init__.py').write_text("raise ImportError('no wandb here')")
    changes = options(SEGMENTATION, shapes, visualizer__vis_backends__1__type='WandbVisBackend')
    arguments = ('--work-dir', tmp_path / 'work', *changes)
    path = os.pathsep.join([str(folder.parent), os.environ.get('PYTHONPATH', '')])
    line = tools.run('train', SEGMENTATION, *arguments, env={'PYTHONPATH': path}).error_line()
    assert 'a package that the config needs is missing: ' in line and 'pip install wandb' in line


def press_ctrl_c(fork: Fork) -> Result:
    """Send what Ctrl-C does, to the loader's workers too; again if Python was busy in a destructor."""
    while True:
        os.killpg(fork.pid, signal.SIGINT)
        if fork.ended(within=20):
            return fork.wait()


def test_interrupted_run_resumes_where_its_last_checkpoint_stands(tools, shapes, tmp_path):
    config, work_dir = SEGMENTATION, tmp_path / 'work'
    endless = options(config, shapes, train_cfg__max_epochs=2000, train_cfg__val_interval=100)
    fork = tools.start('train', config, '--work-dir', work_dir, '--resume', *endless, session=True)
    fork.until((work_dir / 'last_checkpoint').is_file)
    stopped = press_ctrl_c(fork)
    assert stopped.code == 130
    last = (work_dir / 'last_checkpoint').read_text()
    assert stopped.err.splitlines() == [
        f'train.py: error: interrupted; add --resume to continue from {last}'
    ]

    epoch = int(re.search(r'epoch_(\d+)\.pth', last).group(1))
    more = options(config, shapes, train_cfg__max_epochs=epoch + 1, train_cfg__val_interval=100)
    result = tools.run('train', config, '--work-dir', work_dir, '--resume', *more)
    assert f'resumed epoch: {epoch}, iter: {2 * epoch}' in result.ok()
    assert f'Epoch(train) [{epoch + 1}][2/2]' in result.out
    meta = torch.load(work_dir / f'epoch_{epoch + 1}.pth', weights_only=True)['meta']
    assert meta['iter'] == 2 * (epoch + 1)


@pytest.mark.parametrize(
    ('config', 'data'),
    [(DETECTION, 'shapes'), (SEGMENTATION, 'shapes'), (CLASSIFICATION, 'single_shapes')],
    ids=['detection', 'segmentation', 'classification'],
)
def test_amp_on_the_cpu_and_resume_without_a_checkpoint(tools, request, tmp_path, config, data):
    small = dict(train_dataloader__dataset__indices=4, train_dataloader__batch_size=2)
    settings = options(config, request.getfixturevalue(data), train_cfg__val_interval=5, **small)
    arguments = ('--work-dir', tmp_path, '--amp', '--resume', *settings)
    log = tools.run('train', config, *arguments).ok()
    assert "type='Bf16OptimWrapper'" in log
    assert len(re.findall(r' loss: [\d.]+', log)) == 2
    assert 'resumed epoch' not in log and (tmp_path / 'epoch_1.pth').is_file()


def test_training_stops_when_the_loss_is_not_finite(tools, shapes, tmp_path):
    settings = options(
        SEGMENTATION, shapes, optim_wrapper__optimizer__lr='1e30', param_scheduler='None'
    )
    result = tools.run('train', SEGMENTATION, '--work-dir', tmp_path, *settings)
    assert result.code == 1
    assert re.fullmatch(
        r'train.py: error: .*loss.* is (nan|inf) at iteration 2: the training diverged; .*\n',
        result.err,
    )
    assert not (tmp_path / 'epoch_1.pth').exists()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_config_not_found(tools):
    line = tools.run('train', 'configs/none.py').error_line()
    assert line == 'train.py: error: config not found: configs/none.py'


def test_config_with_a_syntax_error_names_file_and_line(tools, tmp_path):
    base = write(tmp_path / 'base.py', 'a = 1\nmodel = dict(type=\n')
    config = write(tmp_path / 'config.py', "_base_ = ['base.py']\n")
    line = tools.run('train', config).error_line()
    assert f'{base}, line 2: ' in line


def test_config_that_raises_names_file_and_line(tools, tmp_path):
    config = write(tmp_path / 'config.py', 'a = 1\nb = a + undefined\n')
    line = tools.run('train', config).error_line()
    assert f"{config}, line 2: NameError: name 'undefined' is not defined" in line


def test_missing_base_names_file_and_line(tools, tmp_path):
    config = write(tmp_path / 'config.py', "# comment\n_base_ = [\n    '../nowhere.py',\n]\n")
    line = tools.run('train', config).error_line()
    assert f'{config}, line 3: _base_ file not found: {tmp_path.parent / "nowhere.py"}' in line


def test_missing_custom_import(tools, tmp_path):
    config = write(tmp_path / 'config.py', "custom_imports = dict(imports=['not_there_mm'])\n")
    line = tools.run('train', config).error_line()
    assert str(config) in line and "No module named 'not_there_mm'" in line


def test_base_part_is_no_training_config(tools):
    part = ROOT / 'configs/_base_/models/mask-rcnn_fpn.py'
    line = tools.run('train', part).error_line()
    assert f'{part} has no train_dataloader' in line


def test_data_root_is_used_and_dumped(tools, shapes, tmp_path):
    small = options(SEGMENTATION, 'unused', train_dataloader__dataset__indices=4)
    small = [option for option in small if 'data_root' not in option]
    arguments = ('--work-dir', tmp_path, '--data-root', shapes)
    tools.run('train', SEGMENTATION, *arguments, *small).ok()
    dumped = Config.fromfile(tmp_path / SEGMENTATION.name)
    assert dumped.data_root == dumped.val_dataloader.dataset.data_root == f'{shapes}/'
    result = tools.run('test', SEGMENTATION, tmp_path / 'epoch_1.pth', *arguments)
    assert 'mIoU: ' in result.ok()


def test_data_root_that_is_not_there(tools, tmp_path):
    line = tools.run('train', SEGMENTATION, '--data-root', tmp_path / 'none').error_line()
    assert f'{tmp_path}/none not found' in line
    assert f'make it with: python tools/make_shapes.py --out {tmp_path}/none' in line


@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        ('train_cfg.max_epochs', 'expected KEY=VALUE'),
        ('train_dataloder.batch_size=2', 'did you mean train_dataloader?'),
        ('model.bakcbone.arch=tiny', 'no bakcbone in model; did you mean backbone?'),
        ('data_root=elsewhere/', ', train_dataloader.dataset.data_root'),
        ('train_dataloader.dataset.pipeline.9.type=X', 'Index 9 exceeds'),
        ('model.backbone.out_indices=[0,1', 'Imbalanced brackets'),
    ],
)
def test_wrong_option(tools, option, expected):
    line = tools.run('train', DETECTION, '--cfg-options', option).error_line()
    assert '--cfg-options' in line and expected in line


def test_missing_data_set_names_the_command_that_makes_it(tools, tmp_path):
    for config in (DETECTION, SEGMENTATION):
        line = tools.run('train', config, *options(config, tmp_path / 'none')).error_line()
        assert f'{tmp_path}/none' in line
        assert 'make it with: python tools/make_shapes.py --out data/shapes' in line
    settings = options(CLASSIFICATION, tmp_path / 'none')
    line = tools.run('train', CLASSIFICATION, *settings).error_line()
    assert f'{tmp_path}/none not found' in line and 'and 5 more' in line
    assert 'make it with: python tools/make_shapes.py --single --out data/shapes_single' in line


@pytest.mark.parametrize('text', ['000000.png\n', '000000.png disk\n'])
def test_broken_list_of_classes(tools, single_shapes, tmp_path, text):
    file = Path(shutil.copytree(single_shapes, tmp_path / 'set')) / 'annotations/classes_train.txt'
    file.write_text(text)
    settings = options(CLASSIFICATION, tmp_path / 'set')
    arguments = ('train', CLASSIFICATION, '--work-dir', tmp_path, *settings)
    assert f'data set CustomDataset, {file}: ' in tools.run(*arguments).error_line()


def test_unreadable_image_of_a_classifier_is_named(tools, single_shapes, tmp_path):
    image = Path(shutil.copytree(single_shapes, tmp_path / 'set')) / 'images/train/000003.png'
    image.write_bytes(b'not an image' * 9)
    settings = options(CLASSIFICATION, tmp_path / 'set', train_dataloader__num_workers=1)
    line = tools.run('train', CLASSIFICATION, '--work-dir', tmp_path, *settings).error_line()
    assert f'cannot read the image {image}: ' in line


def test_empty_image_folder(tools, data_copy):
    shutil.rmtree(data_copy / 'images/val')
    (data_copy / 'images/val').mkdir()
    line = tools.run('train', SEGMENTATION, *options(SEGMENTATION, data_copy)).error_line()
    assert f'{data_copy}/images/val is empty (val_dataloader.dataset.data_prefix.img_path)' in line


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ({'model__backbone__arch': 'huge'}, ['huge', 'micro', 'nano', 'tiny']),
        ({'model__backbone__type': 'PyramidWaitFormer'}, ['PyramidWaitFormer', 'custom_imports']),
    ],
    ids=['arch', 'type'],
)
def test_wrong_model(tools, shapes, tmp_path, change, expected):
    settings = options(SEGMENTATION, shapes, **change)
    line = tools.run('train', SEGMENTATION, '--work-dir', tmp_path, *settings).error_line()
    assert all(word in line for word in expected), line


def test_work_dir_that_cannot_be_made(tools, shapes, tmp_path):
    file = write(tmp_path / 'file', '')
    settings = options(DETECTION, shapes)
    line = tools.run('train', DETECTION, '--work-dir', file / 'work', *settings).error_line()
    assert f'--work-dir {file}/work: cannot write there: Not a directory' in line


class TestResumeRefuses:
    @pytest.fixture
    def resume(self, tools, segmentation, tmp_path):
        def run(checkpoint: Path, **changes: object) -> str:
            arguments = ['--work-dir', tmp_path / 'work', '--resume', checkpoint]
            settings = segmentation.options(**changes)
            return tools.run('train', SEGMENTATION, *arguments, *settings).error_line()

        return run

    def test_missing_file(self, resume, tmp_path):
        assert f'checkpoint not found: {tmp_path}/none.pth' in resume(tmp_path / 'none.pth')

    def test_damaged_file(self, resume, segmentation, tmp_path):
        data = segmentation.checkpoint.read_bytes()
        (tmp_path / 'half.pth').write_bytes(data[: len(data) // 2])
        assert f'{tmp_path}/half.pth is no readable checkpoint' in resume(tmp_path / 'half.pth')

    def test_weights_alone(self, resume, segmentation, tmp_path):
        weights = torch.load(segmentation.checkpoint, weights_only=True)['state_dict']
        torch.save({'state_dict': weights}, tmp_path / 'weights.pth')
        assert 'not the state of a run' in resume(tmp_path / 'weights.pth')

    def test_another_arch(self, resume, segmentation):
        line = resume(segmentation.checkpoint, model__backbone__arch='nano')
        assert f'{segmentation.checkpoint} is a checkpoint of another model' in line
        # the small network is dynamic where the other one is not
        unexpected = r'backbone\.stages\.1\.blocks\.0\..*'
        groups = rf'missing: backbone\..* and \d+ more; unexpected: {unexpected}; of another'
        assert re.search(groups, line)
        assert 'of another shape: backbone.' in line


def test_last_checkpoint_that_is_gone(tools, shapes, tmp_path):
    write(tmp_path / 'last_checkpoint', '/gone/epoch_3.pth')
    settings = options(SEGMENTATION, shapes)
    line = tools.run(
        'train', SEGMENTATION, '--work-dir', tmp_path, '--resume', *settings
    ).error_line()
    assert "'/gone/epoch_3.pth', which is not there" in line


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES = {
    'garbage': lambda path: path.write_bytes(b'not an image' * 9),
    'empty': lambda path: path.write_bytes(b''),
    'truncated': truncate,
    'missing': Path.unlink,
}


@pytest.mark.parametrize(
    ('config', 'folder', 'damage'),
    [
        (DETECTION, 'images', 'garbage'),
        (DETECTION, 'images', 'missing'),
        (SEGMENTATION, 'images', 'truncated'),
        (SEGMENTATION, 'annotations', 'empty'),
    ],
    ids=['garbage', 'missing', 'truncated', 'label'],
)
def test_unreadable_training_image_is_named(tools, data_copy, tmp_path, config, folder, damage):
    image = data_copy / folder / 'train/000003.png'
    DAMAGES[damage](image)
    settings = options(config, data_copy, train_dataloader__num_workers=1)
    result = tools.run('train', config, '--work-dir', tmp_path / 'work', *settings)
    # libpng and OpenCV have their own say on stderr about a truncated file
    lines = [
        line for line in result.err.splitlines() if 'libpng' not in line and 'WARN:' not in line
    ]
    assert result.code == 2, result.err
    assert len(lines) == 1, result.err
    assert lines[0].startswith(f'train.py: error: cannot read the image {image}: ')


def test_broken_annotation_file(tools, data_copy, tmp_path):
    file = data_copy / 'annotations/instances_train.json'
    truncate(file)
    settings = options(DETECTION, data_copy)
    line = tools.run('train', DETECTION, '--work-dir', tmp_path, *settings).error_line()
    assert f'{file} is not valid JSON' in line


def test_annotation_file_without_the_classes(tools, data_copy, tmp_path):
    file = data_copy / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    for category in content['categories']:
        category['name'] = 'other ' + category['name']
    file.write_text(json.dumps(content))
    settings = options(
        DETECTION, data_copy, train_dataloader__dataset__filter_cfg__filter_empty_gt=True
    )
    line = tools.run('train', DETECTION, '--work-dir', tmp_path, *settings).error_line()
    assert f"{file}: classes: not among the categories of the file: 'disk'" in line


def test_what_is_wrong_with_the_data_is_said_before_the_first_iteration(tools, data_copy, tmp_path):
    file = data_copy / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    wrong = options(DETECTION, data_copy, model__roi_head__bbox_head__num_classes=80)
    arguments = ('train', DETECTION, '--work-dir', tmp_path)
    line = tools.run(*arguments, *wrong).error_line()
    assert 'bbox_head (Shared2FCBBoxHead) has num_classes=80, but CocoDataset' in line
    content['images'].append(dict(content['images'][2], file_name='other.png'))
    file.write_text(json.dumps(content))
    line = tools.run(*arguments, *options(DETECTION, data_copy)).error_line()
    assert f'{file}: id twice in images: 2' in line


@pytest.mark.parametrize('damage', ['twice', 'truncated'])
def test_the_file_that_an_evaluator_reads_is_looked_at_too(tools, data_copy, tmp_path, damage):
    file = data_copy / 'annotations/other.json'
    shutil.copyfile(data_copy / 'annotations/instances_val.json', file)
    if damage == 'truncated':
        truncate(file)
    else:
        content = json.loads(file.read_text())
        for image in content['images']:  # an evaluator of boxes asks for no size
            del image['width'], image['height']
        content['images'].append(dict(content['images'][0], file_name='other.png'))
        file.write_text(json.dumps(content))
    settings = options(
        DETECTION, data_copy, val_evaluator__ann_file=str(file), val_evaluator__metric='bbox'
    )
    result = tools.run('train', DETECTION, '--work-dir', tmp_path / 'work', *settings)
    expected = {'twice': 'id twice in images: 0', 'truncated': 'is not valid JSON'}[damage]
    assert str(file) in result.error_line() and expected in result.error_line()
    assert 'Epoch(train)' not in result.out


def test_a_label_that_is_no_class_is_named_with_its_file(tools, data_copy, tmp_path):
    path = data_copy / 'annotations/train/000003.png'
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    labels[40:50] = 200
    cv2.imwrite(str(path), labels)
    settings = options(SEGMENTATION, data_copy, train_dataloader__num_workers=1)
    line = tools.run('train', SEGMENTATION, '--work-dir', tmp_path, *settings).error_line()
    assert f'{path}: label 200 is no class: 7 classes are numbered from 1 to 7' in line


def test_launcher_that_does_not_fit(tools, shapes):
    settings = options(SEGMENTATION, shapes)
    line = tools.run('train', SEGMENTATION, *settings, env={'WORLD_SIZE': '2'}).error_line()
    assert 'add --launcher pytorch' in line
    line = tools.run('train', SEGMENTATION, '--launcher', 'pytorch', *settings).error_line()
    assert 'torchrun' in line


HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == {name!r} else super().find_spec(name, path, target)

for name in [name for name in sys.modules if name.partition('.')[0] == {name!r}]:  # in a warm process
    del sys.modules[name]
sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


@pytest.mark.parametrize(
    ('config', 'module', 'expected'),
    [
        (
            DETECTION,
            'mmengine',
            ["mmengine is not installed; pip install 'weightformer_mm[onedl]'", '[openmmlab]'],
        ),
        (DETECTION, 'mmcv._ext', ['mmcv has no compiled operators']),
        (
            CLASSIFICATION,
            'mmpretrain',
            ['mmpretrain, which the config needs', "pip install 'weightformer_mm[pretrain]'"],
        ),
    ],
)
def test_missing_library_is_named(tools, shapes, tmp_path, config, module, expected):
    (tmp_path / 'sitecustomize.py').write_text(HIDE.format(name=module))
    path = os.pathsep.join([str(tmp_path), *sys.path])
    settings = options(config, shapes)
    arguments = ('train', config, *settings)
    started = tools.start(*arguments, env={'PYTHONPATH': path}, openmmlab=module == 'mmpretrain')
    line = started.wait().error_line()
    assert all(words in line for words in expected), line
