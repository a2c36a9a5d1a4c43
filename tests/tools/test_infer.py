"""``tools/infer.py`` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from zlib import compress, crc32

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from tests.helpers.commands import CLASSIFICATION, DETECTION, ROOT, SEGMENTATION, Result

CLASSES = ('background', 'disk', 'ring', 'triangle', 'square', 'star', 'cross')


@pytest.fixture
def folder(shapes, tmp_path) -> Path:
    """Three images, one of them in a sub-folder, and a file that is none."""
    folder = tmp_path / 'images'
    (folder / 'more').mkdir(parents=True)
    for name, copy in (('000000', 'a.png'), ('000001', 'b.bmp'), ('000002', 'more/a.png')):
        image = cv2.imread(str(shapes / f'images/val/{name}.png'))
        cv2.imwrite(str(folder / copy), image[:50, :70])
    (folder / 'notes.txt').write_text('not an image')
    return folder


def pictures(folder: Path) -> set[str]:
    """All files but the predictions."""
    files = {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}
    return files - {'predictions.json'}


def test_folder(tools, task_run, folder, tmp_path):
    out = tmp_path / 'out'
    arguments = (folder, '--out', out, '--score-thr', '0.01')
    log = tools.run('infer', task_run.config, task_run.checkpoint, *arguments).ok()
    assert f'3 pictures in {out}' in log
    assert pictures(out) == {'a.png', 'b.bmp.png', 'more/a.png'}
    drawn = cv2.imread(str(out / 'a.png'))
    # names of classes need room
    assert drawn.shape == ((224, 313, 3) if task_run.config == CLASSIFICATION else (50, 70, 3))
    image = cv2.resize(cv2.imread(str(folder / 'a.png')), drawn.shape[1::-1])
    assert (drawn != image).any()
    found = json.loads((out / 'predictions.json').read_text())
    names = ('a.png', 'b.bmp', 'more/a.png')
    assert [entry['image'] for entry in found] == [str(folder / name) for name in names]
    assert all(set(entry['names']) <= {*CLASSES} for entry in found)


def test_image_in_a_new_process_and_in_any_folder(tools, segmentation, shapes):
    arguments = (shapes / 'images/val/000001.png', '--out', 'here', '--device', 'cpu')
    log = tools.fresh('infer', SEGMENTATION, segmentation.checkpoint, *arguments).ok()
    assert f'1 pictures in {tools.folder}/here' in log
    assert pictures(tools.folder / 'here') == {'000001.png'}


FEW_TOKENS = """
from weightformer_mm.apis import lazy_maps
lazy_maps.MAX_TOKENS = 100
"""


def test_strips(tools, segmentation, detection, folder, tmp_path):
    config, env = with_module(tmp_path, FEW_TOKENS)
    arguments = ('infer', config, segmentation.checkpoint, folder, '--out')
    for out, options in (('whole', ()), ('in_strips', ['--strips'])):
        tools.run(*arguments, tmp_path / out, *options, env=env).ok()
    assert same(tmp_path / 'whole', tmp_path / 'in_strips')
    arguments = (DETECTION, detection.checkpoint, folder, '--out', tmp_path / 'out', '--strips')
    line = tools.run('infer', *arguments).error_line()
    assert line.endswith('error: no strips for mmdet.MaskRCNN: run it without strips')
    assert not (tmp_path / 'out').exists()


def test_labels_are_those_that_the_evaluation_writes(tools, segmentation, shapes, tmp_path):
    arguments = (SEGMENTATION, segmentation.checkpoint, '--out', tmp_path / 'expected')
    tools.run('test', *arguments, '--work-dir', tmp_path / 'log', '--data-root', shapes).ok()
    arguments = (SEGMENTATION, segmentation.checkpoint, shapes / 'images/val', '--out')
    for out, options in (('labels', ()), ('batches', ('--batch-size', 2, '--save', 'json'))):
        log = tools.run('infer', *arguments, tmp_path / out, '--save', 'label', *options).ok()
        assert f'3 label images in {tmp_path / out}' in log
        assert same(tmp_path / 'expected/labels', tmp_path / out / 'labels')
    assert not (tmp_path / 'labels/predictions.json').exists()
    assert pictures(tmp_path / 'batches') == {f'labels/{n:06}.png' for n in range(3)}
    assert (tmp_path / 'batches/predictions.json').exists()


def test_half_precision_and_bands(tools, detection, folder, tmp_path):
    arguments = (DETECTION, detection.checkpoint, folder, '--out', tmp_path / 'out', '--half')
    tools.run('infer', *arguments, '--bands', 0, 1, 2, '--batch-size', 3).ok()
    assert pictures(tmp_path / 'out') == {'a.png', 'b.bmp.png', 'more/a.png'}


def same(*folders: Path) -> bool:
    """Whether two folders have the same files."""
    one, other = ({p.relative_to(f): p.read_bytes() for p in f.rglob('*.*')} for f in folders)
    return one == other


def failed(result: Result) -> str:
    """The one line of a command that could not draw all pictures."""
    assert result.code == 1, f'exit code {result.code}\n{result.out[-2000:]}\n{result.err}'
    assert 'Traceback' not in result.err
    return result.err.strip().splitlines()[-1]


def png_of(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc32(kind + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b'IHDR', head), chunk(b'IDAT', compress(b'')), chunk(b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def test_bad_images_are_named_after_the_others_are_drawn(tools, segmentation, folder, tmp_path):
    (folder / 'bad.png').write_bytes(b'nothing')
    (folder / 'empty.jpg').touch()
    (folder / os.fsdecode(b'\xff.png')).touch()
    (folder / 'huge.png').write_bytes(png_of(40000, 40000))  # OpenCV stops at 2^30 pixels
    cv2.imwrite(str(folder / 'thin.png'), np.zeros((1, 90, 3), np.uint8))
    long_name = f'{"x" * 250}.bmp'  # the picture's name is too long with .png behind it
    shutil.copy(folder / 'b.bmp', folder / long_name)
    shutil.copy(folder / 'a.png', folder / 'taken.png')
    out = tmp_path / 'out'
    (out / 'taken.png').mkdir(parents=True)
    for number in (1, 8):  # images at a time
        arguments = (folder, '--out', out, '--batch-size', number)
        result = tools.run('infer', SEGMENTATION, segmentation.checkpoint, *arguments)
        line = failed(result)
        for bad in (
            'bad.png (not an image, or damaged)',
            'empty.jpg (not an image, or damaged)',
            r'\udcff.png (not an image, or damaged)',
            'huge.png (OpenCV cannot read it: pixels <= CV_IO_MAX_IMAGE_PIXELS)',
            'thin.png (PyramidWeightFormer needs images of at least 4x4 pixels, got 1x90)',
            f'{out}/{long_name}.png: File name too long',
            f'{out}/taken.png: Is a directory',
        ):
            assert bad in line
        assert 'cannot draw 7 images: ' in line and 'the other 3 are drawn in' in line
        assert pictures(out) == {'a.png', 'b.bmp.png', 'more/a.png'}


def test_no_image_is_drawn(tools, segmentation, tmp_path):
    (tmp_path / 'bad.png').write_bytes(b'nothing')
    arguments = (tmp_path / 'bad.png', '--out', tmp_path / 'out')
    line = failed(tools.run('infer', SEGMENTATION, segmentation.checkpoint, *arguments))
    assert 'bad.png (not an image, or damaged); none is drawn' in line


def with_module(folder: Path, code: str, *transforms: dict) -> tuple[Path, dict[str, str]]:
    """A config that imports a module with ``code``, and the environment in which it is found."""
    (folder / 'of_the_test.py').write_text(code)
    cfg = Config.fromfile(SEGMENTATION)
    cfg.custom_imports.imports.append('of_the_test')
    cfg.test_dataloader.dataset.pipeline[1:1] = transforms
    cfg.dump(folder / 'config.py')
    return folder / 'config.py', {'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}'}


MEMORY = """
import resource
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))
"""


def test_an_image_that_does_not_fit_into_memory(tools, segmentation, folder, tmp_path):
    config, env = with_module(tmp_path, MEMORY)
    (folder / 'large.png').write_bytes(png_of(30000, 30000))  # 2.7 GB; 1 GB is left
    arguments = (config, segmentation.checkpoint, folder, '--out', tmp_path / 'out')
    line = failed(tools.run('infer', *arguments, env=env))
    assert f'{folder}/large.png (OpenCV cannot read it: Failed to allocate' in line
    assert pictures(tmp_path / 'out') == {'a.png', 'b.bmp.png', 'more/a.png'}


BROKEN = """
from mmengine.registry import TRANSFORMS

@TRANSFORMS.register_module()
class Breaks:
    def __call__(self, results):
        if results['img_path'].endswith('b.bmp'):
            raise KeyError('a bug')
        return results
"""


def test_a_fault_of_the_program_keeps_its_traceback(tools, segmentation, folder, tmp_path):
    config, env = with_module(tmp_path, BROKEN, dict(type='mmengine.Breaks'))
    arguments = (config, segmentation.checkpoint, folder, '--out', tmp_path / 'out')
    result = tools.run('infer', *arguments, env=env)
    assert result.code == 1 and 'Traceback' in result.err and "KeyError: 'a bug'" in result.err
    assert f'{folder}/b.bmp' in result.err.strip().splitlines()[-1]
    assert pictures(tmp_path / 'out') == {'a.png'}


def test_a_config_that_no_image_passes(tools, segmentation, folder, tmp_path):
    arguments = (folder, '--out', tmp_path / 'out', '--cfg-options')
    options = "model.decode_head.align_corners='x'"
    result = tools.run('infer', SEGMENTATION, segmentation.checkpoint, *arguments, options)
    assert result.code == 2 and 'Traceback' not in result.err
    line = result.err.strip().splitlines()[-1]
    assert 'config: model' in line and 'align_corners' in line
    assert not pictures(tmp_path / 'out')


def test_a_full_disk_ends_it_at_once(tools, segmentation, folder, tmp_path, small_disk):
    disk = small_disk(tmp_path / 'disk', '12k')
    arguments = (folder, '--out', disk)
    line = failed(tools.run('infer', SEGMENTATION, segmentation.checkpoint, *arguments))
    assert 'No space left on device; ' in line and f' of 3 pictures are in {disk}' in line
    assert all(cv2.imread(str(path)) is not None for path in disk.rglob('*'))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('way', ['itself', 'below', 'linked', 'dots', 'linked below', 'above'])
def test_a_folder_that_is_read_is_not_written_to(tools, segmentation, folder, tmp_path, way):
    (folder / 'images').mkdir()
    shutil.copy(
        folder / 'a.png', folder / 'images/a.png'
    )  # above: out/images/a.png is images/a.png
    (tmp_path / 'link').symlink_to(folder)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/more').symlink_to(folder / 'more')
    before = content(tmp_path)
    out = {
        'itself': folder,
        'below': folder / 'new/out',
        'linked': tmp_path / 'link',
        'dots': folder / 'none/..',
        'linked below': tmp_path / 'out',
        'above': tmp_path,
    }[way]
    arguments = ('infer', SEGMENTATION, segmentation.checkpoint, folder, '--out', out)
    line = tools.run(*arguments).error_line()
    assert f'--out {out}' in line and ('is read' in line or 'are read' in line)
    assert content(tmp_path) == before and not (folder / 'new').exists()


@pytest.mark.parametrize('way', ['beside', 'symbolic', 'hard', 'another'])
def test_an_image_is_not_replaced_by_its_picture(tools, segmentation, folder, tmp_path, way):
    image, out = folder / 'a.png', tmp_path / 'out'
    out.mkdir()
    if way == 'symbolic':
        (out / 'a.png').symlink_to(image)
    elif way == 'hard':
        os.link(image, out / 'a.png')
    elif way == 'beside':
        out = folder
    else:  # not the folder of the images, but where one of them really lies
        out = tmp_path / 'store'
        out.mkdir()
        image = image.replace(out / 'a.png')
        (folder / 'a.png').symlink_to(image)
    before = image.read_bytes()
    source = folder if way == 'another' else folder / 'a.png'
    arguments = ('infer', SEGMENTATION, segmentation.checkpoint, source, '--out', out)
    assert f'--out {out}' in tools.run(*arguments).error_line()
    assert image.read_bytes() == before


def test_no_two_images_share_a_picture_and_no_link_is_followed(
    tools, segmentation, folder, tmp_path
):
    shutil.copy(folder / 'b.bmp', folder / 'b.bmp.png')
    shutil.copy(folder / 'a.png', folder / 'A.PNG')  # one file where case is folded
    out, victim = tmp_path / 'out', tmp_path / 'victim'
    out.mkdir()
    victim.write_text('precious')
    (out / 'A.PNG').symlink_to(victim)
    tools.run('infer', SEGMENTATION, segmentation.checkpoint, folder, '--out', out).ok()
    assert pictures(out) == {'A.PNG', 'a-2.png', 'b.bmp.png', 'b.bmp-2.png', 'more/a.png'}
    assert victim.read_text() == 'precious' and not (out / 'A.PNG').is_symlink()


@pytest.mark.parametrize(
    ('make', 'expected'),
    [
        (lambda path: None, 'no such image or folder: {path}'),
        (Path.mkdir, '{path}: an empty folder'),
        (
            lambda path: (path.mkdir(), (path / 'a.txt').touch()),
            '{path}: 1 files, none of them an image',
        ),
    ],
    ids=['missing', 'empty', 'no images'],
)
def test_no_images_are_seen_before_the_weights_are_read(tools, tmp_path, make, expected):
    path = tmp_path / 'source'
    make(path)
    arguments = (path, '--out', tmp_path / 'out')
    line = tools.run('infer', SEGMENTATION, tmp_path / 'no.pth', *arguments).error_line()
    assert expected.format(path=path) in line
    assert not (tmp_path / 'out').exists()


def test_wrong_arguments(tools, segmentation, detection, shapes, tmp_path):
    image = shapes / 'images/val/000000.png'
    (tmp_path / 'file').touch()

    def refuse(checkpoint: Path, *arguments: object) -> str:
        return tools.run('infer', SEGMENTATION, checkpoint, image, *arguments).error_line()

    here, out = segmentation.checkpoint, ('--out', tmp_path / 'out')
    assert 'is a checkpoint of another model' in refuse(detection.checkpoint, *out)
    assert '--device gpu: no such device' in refuse(here, *out, '--device', 'gpu')
    assert '--device cuda:99: no such device' in refuse(here, *out, '--device', 'cuda:99')
    assert 'cannot write there' in refuse(here, '--out', tmp_path / 'file/out')
    assert '--batch-size 0: expected 1 or more' in refuse(here, *out, '--batch-size', 0)
    assert '--bands 0 1 3: expected three' in refuse(here, *out, '--bands', 0, 1, 3)
    assert not (tmp_path / 'out').exists()
