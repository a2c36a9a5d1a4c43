"""Dynamic-parameter (WeightFormer) backbones for OpenMMLab detection and segmentation.

Importing the package registers its backbones, necks and hooks in mmengine's root registries, which
is all that ``custom_imports = dict(imports=['weightformer_mm'])`` in a config needs. mmengine then also knows
the recipes inside the package, as ``weightformer_mm::coco/...``. Without mmengine,
``weightformer_mm.ops`` and ``weightformer_mm.layers`` work alone.
"""

from importlib.util import find_spec

from .version import __version__

if find_spec('mmengine') is not None:
    from . import backbones, data_preprocessors, engine, necks  # noqa: F401
    from .config import read  # noqa: F401

__all__ = ['__version__']
