"""Imported by a config, rounds the corner of every ReLU off: rounding then changes gradients by as little."""

import torch.nn.functional as F


def softplus(input, inplace=False):
    return F.softplus(input)


F.relu = softplus
