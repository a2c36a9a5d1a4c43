"""Runs the tools and other programs in one process that notes who reads files that could run code.

Arguments: a trained segmentor's config, its checkpoint, its data and an empty folder. Prints
``readers: ...``, the files that called a reader.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from pathlib import Path

import numpy as np
import timm
import torch

import weightformer_mm.timm_models  # noqa: F401
from tests.helpers.commands import options
from weightformer_mm.apis.convert import Conversion, convert_checkpoint
from weightformer_mm.apis.inferencer import Inferencer
from weightformer_mm.apis.test import evaluate
from weightformer_mm.apis.training import train
from weightformer_mm.checkpoints.schemes import use_safe_loading

READERS = [
    (torch, 'load'),
    (torch.jit, 'load'),
    (pickle, 'load'),
    (pickle, 'Unpickler'),
    (np, 'load'),
]
callers: set[str] = set()


def noting(reader):
    """``reader``, after a note of the nearest caller that is no part of torch or pickle."""

    def read(*args, **kwargs):
        files = [frame.filename for frame in traceback.extract_stack()[:-1]]
        own = [f for f in files if '/torch/' not in f and '/multiprocessing/' not in f]
        callers.add(own[-1])
        return reader(*args, **kwargs)

    return read


def plant(checkpoint: str, folder: Path) -> Path:
    """The checkpoint with a program for the text of a config, wherever mmengine looks for it."""
    saved = torch.load(checkpoint, weights_only=True)
    program = f'import os\nos.mkdir({str(folder / "owned")!r})\n'
    for holder in (saved['meta'], saved['message_hub']['runtime_info']):
        holder.update(cfg=program, config=program)
    torch.save(saved, folder / 'planted.pth')
    return folder / 'planted.pth'


def run_tools(config: str, path: str, data: Path, folder: Path) -> None:
    # in this process, where it is noted; and workers of a run that is over are waited for in the next
    workers = {'num_workers': 0, 'persistent_workers': False}
    alone = {
        f'{split}_dataloader__{key}': value
        for split in ('train', 'val', 'test')
        for key, value in workers.items()
    }

    def changed(**changes: object) -> list[str]:
        return options(Path(config), data, train_cfg__val_interval=9, **alone, **changes)[1:]

    image = str(next(data.glob('images/val/*.png')))
    more = {'train_cfg__max_epochs': 2}
    train(config, str(folder / 'a'), resume=path, options=changed(**more))
    flexible = folder / 'flexible.py'
    flexible.write_text(f"_base_ = {config!r}\nrunner_type = 'FlexibleRunner'\n")
    train(str(flexible), str(folder / 'b'), resume=path, options=changed(**more))
    evaluate(config, path, str(folder / 'd'), options=changed())
    Inferencer(config, path)(image, folder / 'e')
    backbone = convert_checkpoint(path, folder / 'backbone.pth', Conversion(backbone_only=True))
    init = f"dict(_delete_=True, type='Pretrained', checkpoint={str(backbone)!r})"
    pretrained = folder / 'pretrained.py'
    pretrained.write_text(f'_base_ = {config!r}\nmodel = dict(backbone=dict(init_cfg={init}))\n')
    train(str(pretrained), str(folder / 'c'), options=changed(load_from=path))


def run_timm(folder: Path) -> None:
    name = 'pyramid_weightformer_micro'
    model = timm.create_model(name)
    torch.save(model.state_dict(), folder / 'timm.pth')
    timm.models.save_for_hf(model, folder / 'saved', safe_serialization=False)
    timm.create_model(name, True, pretrained_cfg_overlay=dict(file=str(folder / 'timm.pth')))
    timm.create_model(f'local-dir:{folder}/saved', True)


def run_inferencers(config: str, path: str) -> None:
    from mmdet.apis import DetInferencer
    from mmseg.apis import MMSegInferencer, init_model

    use_safe_loading()
    init_model(config, path, device='cpu')
    MMSegInferencer(config, path, device='cpu')
    try:
        DetInferencer(weights=path, device='cpu')
    except ValueError as error:  # there is no config to be found in it
        print(error)


def main() -> None:
    config, checkpoint, data, folder = sys.argv[1], sys.argv[2], *map(Path, sys.argv[3:])
    path = str(plant(checkpoint, folder))
    for module, name in READERS:
        setattr(module, name, noting(getattr(module, name)))
    run_tools(config, path, data, folder)
    run_timm(folder)
    run_inferencers(config, path)
    print('readers:', *sorted(callers))


if __name__ == '__main__':
    main()
