"""Files of a data set: are they there, and can they be read?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tqdm.contrib.concurrent import thread_map

from ...errors import UserError
from ...utils.translate import blame_run
from .named_loading import NamedLoading, guard
from .pixels import deep_pixels
from .report import Report

NO_FILE = 'no such file'
SAMPLE = 256  # images read per data set unless all are


def present_images(report: Report, items: Sequence[dict]) -> list[dict]:
    """The items whose file ``item['img_path']`` exists; the others become errors."""
    if any('://' in item['img_path'] for item in items[:1]):
        report.note('images', 'on another file system: not checked')
        return []
    missing = dict.fromkeys(missing_files(item['img_path'] for item in items))
    for path in missing:
        report.error('images', NO_FILE, path)
    return [item for item in items if item['img_path'] not in missing]


def missing_files(paths: Iterable[str]) -> list[str]:
    """The paths of this file system at which nothing is; each folder is listed once."""
    files: dict[str, set[str]] = {}
    missing: dict[str, None] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in files:
            files[folder] = _files(folder or '.')
        if name not in files[folder] and not os.path.exists(path):
            missing[path] = None
    return list(missing)


def _files(folder: str) -> set[str]:
    """Names in a folder, but for links, which may lead to nothing; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_symlink()}
    except OSError:
        return set()


def unread(dataset: Any) -> Iterator[tuple[str, str]]:
    """Kind and path of what a data set would read from this file system, but is missing."""
    for what, kind, key in (
        ('image', 'image', 'img_path'),
        ('label image', 'with_seg', 'seg_map_path'),
    ):
        step = _reader(dataset, kind)
        if step is not None and _is_local(dataset) and _is_local(step):
            paths = (dataset.get_data_info(index).get(key) for index in range(len(dataset)))
            here = (path for path in paths if isinstance(path, str) and '://' not in path)
            yield from ((what, path) for path in missing_files(here))


def _reader(dataset: Any, kind: str) -> Any:
    """The transform that needs the file of an item; None if another may change the item before."""
    for step in transforms_of(dataset):
        if not is_of_libraries(step):
            return None
        step = _unguarded(step)
        name = type(step).__name__
        if name.startswith('LoadImage') if kind == 'image' else getattr(step, kind, False):
            reads = name.endswith('FromFile') if kind == 'image' else name != 'LoadEmptyAnnotations'
            return step if reads and not getattr(step, 'ignore_empty', False) else None
    return None


def is_of_libraries(transform: Any) -> bool:
    """Whether a transform, guarded or not, is mmcv's or of a library on it, which read what an item names."""
    return type(_unguarded(transform)).__module__.startswith(
        ('mmcv.', 'mmdet.', 'mmseg.', 'mmpretrain.')
    )


def _unguarded(transform: Any) -> Any:
    return transform.transform if isinstance(transform, NamedLoading) else transform


def _is_local(part: Any) -> bool:
    given = (getattr(part, name, None) for name in ('backend_args', 'file_client_args'))
    return all((args or {}).get('backend', 'local') == 'local' for args in given)


def read_images(
    report: Report, dataset: Any, present: Sequence[dict], total: int, everything: bool
) -> list[tuple[dict, tuple[int, int] | None]]:
    """Read images as the data set's own pipeline loads them; returns items with height and width.

    Without ``everything``, reads at most :data:`SAMPLE` of the ``present`` items, evenly spread.
    """
    chosen = present[:: 1 if everything else -(-len(present) // SAMPLE) or 1]
    report.looked('images read', len(chosen), total)
    load = loader(dataset, 'image')

    def read(item: dict) -> tuple[tuple[int, int] | None, tuple[str, bool] | None]:
        if load is None:
            return None, None
        try:
            image = load({'img_path': item['img_path'], 'img_id': 0})['img']
        except Exception as error:
            raise blame_run(error, type(load.transform).__name__) from error
        return image.shape[:2], deep_pixels(item['img_path'], image)

    found = []
    for item, (shape, deep) in read_all(report, 'images read', chosen, read):
        found.append((item, shape))
        if deep is not None:
            tell = report.warning if deep[1] else report.note
            tell('images read', deep[0], item['img_path'])
    return found


def transforms_of(dataset: Any) -> list[Any]:
    """The transforms of a data set's pipeline; none if it has no pipeline of mmengine's."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return [step.transform if isinstance(step, NamedLoading) else step for step in steps]


def is_unlabelled(dataset: Any) -> bool:
    """Whether a data set is read without its objects: a model finds some itself (semi-supervised)."""
    return any(type(step).__name__ == 'LoadEmptyAnnotations' for step in transforms_of(dataset))


def loader(dataset: Any, attribute: str) -> NamedLoading | None:
    """The pipeline's transform that loads the ``'image'``, or else what ``attribute`` names."""
    for transform in transforms_of(dataset):
        loads_image = type(transform).__name__.startswith('LoadImage')
        if loads_image if attribute == 'image' else getattr(transform, attribute, False):
            return guard(transform)
    return None


def read_all(
    report: Report, check: str, items: Sequence[Any], read: Callable[[Any], Any]
) -> list[tuple[Any, Any]]:
    """Read the items in threads, with a progress bar; returns the readable ones with their results."""

    def caught(item: Any) -> Any:
        try:
            return read(item)
        except (UserError, OSError) as error:
            return error

    title = f'{report.title.split(":")[0]} {check}'
    results = thread_map(caught, items, max_workers=8, desc=title, unit='image')
    for error in (result for result in results if isinstance(result, Exception)):
        report.error(check, 'cannot be read', str(error).replace('cannot read the image ', ''))
    return [pair for pair in zip(items, results) if not isinstance(pair[1], Exception)]
