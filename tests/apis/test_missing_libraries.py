"""Without mmcv, mmdet and mmseg the networks work, and what needs these says how to install them."""

from __future__ import annotations

from tests.helpers.commands import DETECTION, ROOT, Fork
from weightformer_mm.utils.translate import explain

CODE = """
import sys
for name in ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'pycocotools'):
    sys.modules[name] = None  # importing it fails
import torch, weightformer_mm
network = weightformer_mm.backbones.PyramidWeightFormer('tiny')
print(*(feature.shape[1] for feature in network(torch.randn(1, 3, 32, 32))))
import weightformer_mm.timm_models, weightformer_mm.apis as apis, weightformer_mm.apis.convert
from weightformer_mm.config.read import load_config, require
needy = [lambda name=name: getattr(apis, name) for name in apis.__all__]
for use in (*needy, lambda: require(load_config(sys.argv[1]), (), 'this')):
    try:
        use()
    except Exception as error:
        print(type(error).__name__, error)
"""
ADVICE = "not installed; pip install 'weightformer_mm[onedl]' (maintained builds) or "


def test_the_networks_need_mmengine_alone_and_the_rest_says_what_it_needs(tmp_path):
    (tmp_path / 'script.py').write_text(CODE)
    script = Fork([str(tmp_path / 'script.py'), str(DETECTION)], ROOT, {}, openmmlab=False)
    channels, *errors = script.wait().ok().splitlines()
    assert channels == '64 128 320 512'
    assert len(errors) == 5 and all(ADVICE in error for error in errors)
    assert all(error.startswith('ModuleNotFoundError ') for error in errors[:-1])
    assert errors[-1].startswith('LibraryMissing mmdet, which the config needs, ')


def test_a_base_config_of_a_missing_library():
    error = ModuleNotFoundError('mmdet is not installed, please install mmdet manually')  # mmengine
    assert str(explain(error)).startswith(f'mmdet is {ADVICE}')
