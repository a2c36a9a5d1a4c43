"""The part that trains a real recipe on real pictures for about 300 iterations, and evaluates it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from weightformer_mm.apis import train
from weightformer_mm.config.read import innermost_dataset, load_config
from weightformer_mm.errors import UserError

from ..benchmark.clock import failure_of
from ..runs import newest_scalars
from .data import IMAGES, images_of
from .findings import FAILED, MEASURED, NOT_RUN, OK
from .options import PartOptions, part_options

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 300
INTERVAL = 10  # iterations between two lines of the log
FEW = 4  # pictures of a rehearsal
# set of pictures → recipe; {arch} is micro in a rehearsal
RECIPES = {
    'camvid': 'camvid/upernet_pyramid-weightformer-{arch}_1xb8-{epochs}e_camvid-240x320.py',
    'nuclei': 'nuclei/mask-rcnn_pyramid-weightformer-{arch}_fpn_1xb4-24e_nuclei-256x256.py',
}
_EPOCHS = {'micro': 80, 'tiny': 100}  # in the names of CamVid's recipes


def config_of(name: str, data: Path, rehearse: bool) -> Any:
    """The recipe on the prepared pictures, with whole epochs of at least `ITERATIONS` together.

    Raises:
        UserError: the pictures are not there.
    """
    arch = 'micro' if rehearse else 'tiny'
    recipe = RECIPES[name].format(arch=arch, epochs=_EPOCHS[arch])
    root = data / name
    if not root.is_dir():
        raise UserError(f'no folder {root}; write it with tools/gpu_report.sh --prepare {data}')
    cfg = load_config(ROOT / 'configs' / recipe, data_root=root)
    loader = cfg.train_dataloader
    images = images_of(root / 'train')
    if rehearse:
        images = min(images, FEW)
        for part in (loader, cfg.val_dataloader):
            part.update(num_workers=0, persistent_workers=False)
            innermost_dataset(part).indices = FEW
        loader.batch_size = 2
    else:
        cfg.model.backbone.backend = 'triton'
    if name == 'camvid':
        for split in ('train', 'val'):
            innermost_dataset(cfg[f'{split}_dataloader']).img_suffix = IMAGES
    length = max(1, math.ceil(images / loader.batch_size))
    epochs = 1 if rehearse else math.ceil(ITERATIONS / length)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.default_hooks.checkpoint.interval = epochs
    cfg.default_hooks.logger.interval = 1 if rehearse else INTERVAL
    return cfg


def main() -> None:
    options = part_options('training')
    try:
        cfg = config_of(options.set, options.data, options.rehearse)
    except UserError as error:
        options.findings.add('training', NOT_RUN, detail=str(error))
        return
    with tempfile.TemporaryDirectory() as work_dir:
        try:
            train(cfg, work_dir)
        except (Exception, KeyboardInterrupt) as error:
            reason = failure_of(error) if isinstance(error, Exception) else 'interrupted'
            options.findings.add('training', FAILED, detail=reason)
        _report(newest_scalars(Path(work_dir)), options)


def _report(lines: list[dict], options: PartOptions) -> None:
    """What the log of a training says, however far it came."""
    findings, steps = options.findings, [line for line in lines if 'loss' in line]
    if steps:
        part = max(1, len(steps) // 4)
        first, last = (mean(line['loss'] for line in s) for s in (steps[:part], steps[-part:]))
        learns = OK if last < first or options.rehearse else FAILED
        detail = f'from {first:.4g}: means over a quarter of {steps[-1]["step"]} iterations'
        findings.add('loss', learns, last, detail=detail)
        later = steps[len(steps) // 2 :]
        seconds = mean(line['time'] for line in later)
        findings.add(
            'iteration',
            MEASURED,
            seconds * 1e3,
            'ms',
            'second half; another training runs beside it',
        )
        if 'memory' in steps[-1]:
            findings.add('peak memory', MEASURED, steps[-1]['memory'], 'MiB')
    for line in lines:
        for name in ('mIoU', 'coco/bbox_mAP', 'coco/segm_mAP'):
            if name in line:
                findings.add(name, MEASURED, line[name])


if __name__ == '__main__':
    main()
