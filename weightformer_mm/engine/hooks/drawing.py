"""The hooks of mmdet and mmseg that draw predictions, on images as the pipeline loads them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import mmcv

from ...utils.patches import replaced
from ...visualization.drawing import evaluate_copies, image_reader, visible

DRAWING_HOOKS = ('DetVisualizationHook', 'SegVisualizationHook')


def on_loaded_images(kind: type) -> type:
    """A hook like ``kind``, one of `DRAWING_HOOKS`, that draws on what the pipeline's loader reads.

    Theirs read each file again, turned upright, as three channels of 8 bits.
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
            self._load = image_reader(loop.dataloader.dataset)
            evaluate_copies(loop.evaluator)

        def after_val_iter(self, *args: Any, **kwargs: Any) -> None:
            with self._loading():
                super().after_val_iter(*args, **kwargs)

        def after_test_iter(self, *args: Any, **kwargs: Any) -> None:
            with self._loading():
                super().after_test_iter(*args, **kwargs)

        @contextmanager
        def _loading(self) -> Iterator[None]:
            names = SimpleNamespace(**{**vars(mmcv), 'imfrombytes': self._read})
            with replaced(module, get=lambda path, **options: path, mmcv=names):
                yield

        def _read(self, path: str, **options: Any) -> Any:
            return visible(self._load({'img_path': path, 'img_id': 0})['img'])

    Hook.__name__ = Hook.__qualname__ = kind.__name__
    return Hook
