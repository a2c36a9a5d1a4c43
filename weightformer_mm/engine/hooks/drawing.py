"""The hooks of mmdet and mmseg that draw predictions, on images as the pipeline loads them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import mmcv
from mmengine import fileio

from ...datasets.checks.images import is_of_libraries, loader
from ...datasets.checks.wrappers import innermost
from ...utils.patches import replaced
from ...visualization.drawing import evaluate_copies, loaded

DRAWING_HOOKS = ('DetVisualizationHook', 'SegVisualizationHook')


def on_loaded_images(kind: type) -> type:
    """A hook like ``kind``, one of `DRAWING_HOOKS`, that draws on what the pipeline's loader reads.

    Theirs read each file again, turned upright, as three channels of 8 bits. They still do for a loader that
    is not the libraries' own: it may need more than a path.
    """
    module = sys.modules[kind.__module__]

    class Hook(kind):  # type: ignore[valid-type, misc]
        def before_val(self, runner: Any) -> None:
            super().before_val(runner)
            self._look_at(runner.val_loop)

        def before_test(self, runner: Any) -> None:
            super().before_test(runner)
            self._look_at(runner.test_loop)

        def _look_at(self, loop: Any) -> None:
            load = loader(innermost(loop.dataloader.dataset)[0], 'image')
            self._load = load if load and is_of_libraries(load) else None
            evaluate_copies(loop.evaluator)

        def after_val_iter(self, *args: Any, **kwargs: Any) -> None:
            with self._loading():
                super().after_val_iter(*args, **kwargs)

        def after_test_iter(self, *args: Any, **kwargs: Any) -> None:
            with self._loading():
                super().after_test_iter(*args, **kwargs)

        @contextmanager
        def _loading(self) -> Iterator[None]:
            if self._load is None:
                yield
                return
            own = {
                'mmcv': _with(mmcv, imfrombytes=self._read),
                'get': _same_path,  # a name of mmdet's module; mmseg's has this or the next one
                'fileio': _with(fileio, get=_same_path),
            }
            known = {name: value for name, value in own.items() if hasattr(module, name)}
            with replaced(module, **known):
                yield

        def _read(self, path: str, **options: Any) -> Any:
            return loaded(self._load, path)

    Hook.__name__ = Hook.__qualname__ = kind.__name__
    return Hook


def _same_path(path: str, **options: Any) -> str:
    return path


def _with(module: Any, **changes: Any) -> SimpleNamespace:
    """The names of a module, with some changed."""
    return SimpleNamespace(**{**vars(module), **changes})
