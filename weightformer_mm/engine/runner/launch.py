"""Distributed launch, also on machines without a GPU."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.device import get_device

from ...errors import UserError

_TORCHRUN = {'RANK', 'LOCAL_RANK', 'WORLD_SIZE'}
_SLURM = {'SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'}


def use_launcher(cfg: Config, launcher: str) -> None:
    """Set ``cfg.launcher`` and what it needs; UserError if the process was started in another way."""
    world_size = int(os.environ.get('WORLD_SIZE', 1))
    if launcher == 'none' and world_size > 1:
        raise UserError(f'started as one of {world_size} processes: add --launcher pytorch')
    if launcher == 'pytorch' and not os.environ.keys() >= _TORCHRUN:
        raise UserError('--launcher pytorch: use torchrun, as tools/dist_train.sh CONFIG GPUS does')
    if launcher == 'slurm' and not os.environ.keys() >= _SLURM:
        raise UserError('--launcher slurm: use tools/slurm_train.sh PARTITION JOB_NAME CONFIG')
    cfg.launcher = launcher
    if launcher in ('pytorch', 'slurm') and torch.device(get_device()).type == 'cpu':
        if launcher == 'slurm':
            _use_slurm_variables()
        _use_gloo(cfg)


def _use_slurm_variables() -> None:
    """Set the environment variables that torch reads, as mmengine's own start-up does."""
    os.environ |= {
        'RANK': os.environ['SLURM_PROCID'],
        'WORLD_SIZE': os.environ['SLURM_NTASKS'],
        'LOCAL_RANK': os.environ.get('SLURM_LOCALID', '0'),
        'MASTER_PORT': os.environ.get('MASTER_PORT', '29500'),
    }
    if 'MASTER_ADDR' not in os.environ:  # the first of a list such as ``node[03-05]``
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        try:
            hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(f'{" ".join(command)} failed ({error}); set MASTER_ADDR') from error
        os.environ['MASTER_ADDR'] = hosts.split()[0]


def _use_gloo(cfg: Config) -> None:
    """Start up with Gloo: mmengine's own start-up selects a CUDA device and passes ``device_ids``."""
    dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
    timeout = timedelta(seconds=dist_cfg.get('timeout', 1800))
    torch.distributed.init_process_group('gloo', timeout=timeout)
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
        **(cfg.get('model_wrapper_cfg') or {}),
        'device_ids': None,
    }
