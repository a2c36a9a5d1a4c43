"""mmengine's reading of YAML and pickle files, without running what is in them."""

from __future__ import annotations

from typing import Any

import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler

from ..errors import UserError


class SafeYamlHandler(YamlHandler):
    """Reads plain values only; mmengine's own handler would call what ``!!python/object/apply`` names."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.load(file, Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))


class WriteOnlyPickleHandler(PickleHandler):
    """Writes pickles, as evaluators do, and reads none."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        raise UserError(
            f'{getattr(file, "name", "a .pkl file")} is a pickle, and reading it could run code; '
            'save the data as JSON'
        )


def read_yaml_safely() -> None:
    """Let every ``mmengine.load`` of this process read YAML by `SafeYamlHandler`."""
    register_handler(['yaml', 'yml'])(SafeYamlHandler)


def refuse_pickles() -> None:
    """Let every ``mmengine.load`` of this process refuse pickles."""
    register_handler(['pickle', 'pkl'])(WriteOnlyPickleHandler)
