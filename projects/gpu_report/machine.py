"""The part that says what is there: versions, libraries that can be imported, and the GPU's ceilings."""

from __future__ import annotations

import platform
from importlib import import_module

import torch

from ..benchmark.ceilings import CeilingGauge
from ..benchmark.clock import failure_of
from .findings import FAILED, MEASURED, OK
from .options import PartOptions, part_options

LIBRARIES = (
    *('numpy', 'triton', 'timm', 'pytest', 'xdist', 'cv2', 'rich'),
    *(
        'mmengine',
        'mmcv',
        'mmcv.ops',
        'mmdet',
        'mmseg',
        'weightformer_mm',
        'weightformer_mm.backbones',
    ),
)


def main() -> None:
    options = part_options('machine')
    findings = options.findings
    cuda = f'CUDA {torch.version.cuda}' if torch.version.cuda else 'no CUDA'
    findings.add(
        'torch', OK, detail=f'{torch.__version__}, {cuda}, Python {platform.python_version()}'
    )
    if options.device.type == 'cuda':
        about = torch.cuda.get_device_properties(options.device)
        findings.add('memory', MEASURED, about.total_memory / 2**30, 'GiB')
        findings.add('compute capability', OK, detail=f'{about.major}.{about.minor}')
    for name in LIBRARIES:
        try:
            module = import_module(name)
        except Exception as error:
            findings.add(name, FAILED, detail=failure_of(error))
        else:
            findings.add(name, OK, detail=str(getattr(module, '__version__', '')))
    for dtype in ('float32', 'bfloat16'):
        _ceilings(options, dtype)


def _ceilings(options: PartOptions, dtype: str) -> None:
    tiny = dict(side=256, size=2**20) if options.rehearse else {}
    try:
        found = CeilingGauge(options.device, dtype, **tiny).measure()
    except Exception as error:
        options.findings.add(f'ceilings in {dtype}', FAILED, detail=failure_of(error))
        return
    tera = 2 * found.multiply_adds_per_s / 1e12
    options.findings.add(f'matrix product in {dtype}', MEASURED, tera, 'TFLOP/s')
    options.findings.add('copy', MEASURED, found.bytes_per_s / 1e12, 'TB/s')


if __name__ == '__main__':
    main()
