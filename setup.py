from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
# where mmengine and mim look for a package's recipes and scripts; links in a checkout, files in a wheel
RECIPES = [
    '.mim/model-index.yml',
    *(f'.mim/configs/**/*.{suffix}' for suffix in ('py', 'yml', 'safetensors')),
    *(f'.mim/tools/{name}.py' for name in ('train', 'test', 'command_line')),
]
# they need ``projects``, which a wheel does not have
EXPERIMENTS = ['.mim/configs/context/*', '.mim/configs/_base_/datasets/shapes_context.py']


def read_version() -> str:
    """The version, read as text: importing the package would need torch."""
    text = (HERE / 'weightformer_mm' / 'version.py').read_text()
    return re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE).group(1)


def read_description() -> str:
    readme = HERE / 'README.md'
    return readme.read_text() if readme.exists() else ''


setup(
    name='weightformer_mm',
    version=read_version(),
    description='WeightFormer backbones with dynamic weights for mmdetection and mmsegmentation',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['weightformer_mm', 'weightformer_mm.*', 'weightformer_mm_cli']),
    package_data={'weightformer_mm': ['py.typed', *RECIPES]},
    exclude_package_data={'weightformer_mm': EXPERIMENTS},
    entry_points={'console_scripts': ['weightformer-mm = weightformer_mm_cli.main:main']},
    python_requires='>=3.9',
    # No OpenMMLab package here: installing into an existing environment must replace nothing.
    install_requires=['torch>=2.1', 'timm>=0.9', 'numpy'],
    extras_require={
        'onedl': [
            'onedl-mmengine>=0.10',
            'onedl-mmcv>=2.0',
            'onedl-mmdetection>=3.1',
            'onedl-mmsegmentation>=1.1',
        ],
        'openmmlab': ['mmengine>=0.10', 'mmcv>=2.0', 'mmdet>=3.1', 'mmsegmentation>=1.1'],
        # for configs/imagenet; with the official builds: pip install 'mmpretrain>=1.0'
        'pretrain': ['onedl-mmpretrain>=1.3'],
        'triton': ['triton>=3.0'],
        'export': ['onnx', 'onnxscript', 'onnxruntime'],
        'completion': ['argcomplete'],
        'dev': [
            *('hypothesis', 'pytest', 'pytest-timeout', 'pytest-xdist', 'ruff'),
            *('nbclient', 'ipykernel', 'grad-cam'),  # for the notebooks' tests
            'argcomplete',  # for the test of completion
        ],
        'lint': ['codespell', 'mypy', 'types-PyYAML'],
    },
)
