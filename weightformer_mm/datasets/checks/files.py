"""Files of a data set: are they there, and can they be read?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from tqdm import tqdm

from ...errors import UserError
from ..guards.images import NamedLoading, guard
from .report import Report

SAMPLE = 256  # images of a data set that are read unless all are
_CHUNK = 512  # images whose results wait to be looked at
_THREADS = 8


class Folders:
    """Tells whether files exist; lists each folder once, as asking for 100000 files one by one is slow."""

    def __init__(self) -> None:
        self._names = lru_cache(maxsize=None)(self._list)

    def has(self, path: str) -> bool:
        folder, name = os.path.split(path)
        return name in self._names(folder)

    @staticmethod
    def _list(folder: str) -> frozenset[str]:
        try:
            with os.scandir(folder or '.') as entries:
                return frozenset(entry.name for entry in entries if not entry.is_dir())
        except OSError:
            return frozenset()


def is_remote(path: str) -> bool:
    """Whether only mmengine can reach the file."""
    return '://' in path


def sample(items: Sequence[Any], everything: bool) -> list[Any]:
    """All items, or :data:`SAMPLE` of them, evenly spread; the same ones each time."""
    if everything or len(items) <= SAMPLE:
        return list(items)
    return [items[index * len(items) // SAMPLE] for index in range(SAMPLE)]


def loaders(dataset: Any, attribute: str) -> list[NamedLoading]:
    """The transforms of a data set's pipeline that load the image or, with ``with_seg``, its labels."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    if attribute == 'image':
        found = [t for t in transforms if type(t).__name__.startswith('LoadImage')][:1]
    else:
        found = [t for t in transforms if getattr(t, attribute, False)][:1]
    return [guard(transform) for transform in found]


def read_all(
    report: Report,
    check: str,
    items: Sequence[Any],
    read: Callable[[Any], Any],
) -> Iterator[tuple[Any, Any]]:
    """Read the items in threads, with a progress bar; yields each with what was read.

    An item that cannot be read becomes an error of ``check`` and is not yielded.
    """
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        with tqdm(
            total=len(items), desc=f'{report.title.split(":")[0]} {check}', unit='image'
        ) as bar:
            for chunk in _chunks(items, _CHUNK):
                for item, (result, problem) in zip(chunk, pool.map(_caught(read), chunk)):
                    bar.update()
                    if problem is None:
                        yield item, result
                    else:
                        report.error(check, 'cannot be read', problem)


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _caught(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, str | None]]:
    def caught(item: Any) -> tuple[Any, str | None]:
        try:
            return read(item), None
        except UserError as error:
            return None, str(error).replace('cannot read the image ', '')

    return caught
