"""What every program of a report is told, and where it runs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from ..benchmark.machine import device_name, resolve_device
from .findings import Findings


@dataclass(frozen=True)
class PartOptions:
    """Options of a part.

    Attributes:
        findings: where its findings go.
        out: the folder of the report.
        data: the folder with the prepared pictures.
        set: name of a set of pictures.
        rehearse: run at tiny sizes on the CPU.
        device: where to compute.
    """

    findings: Findings
    out: Path
    data: Path
    set: str
    rehearse: bool
    device: torch.device


def part_options(part: str) -> PartOptions:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--set', default='')
    parser.add_argument('--rehearse', action='store_true')
    given = parser.parse_args()
    device = resolve_device('cpu' if given.rehearse else 'auto')
    name = '-'.join(filter(None, (part, given.set)))
    findings = Findings(given.out, name, device_name(device))
    return PartOptions(findings, given.out, given.data, given.set, given.rehearse, device)
