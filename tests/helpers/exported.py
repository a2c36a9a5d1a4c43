"""Models, images and runs for the tests of exported files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from weightformer_mm.apis import init_model


def save_weights(cfg, path: Path, std: float = 0.2) -> Path:
    """A checkpoint for a config, with weights for which predictions matter."""
    torch.manual_seed(0)
    model = init_model(cfg, device='cpu')
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=std)
    torch.save({'state_dict': model.state_dict()}, path)
    return path


def images(shape: tuple[int, int, int]) -> list[np.ndarray]:
    """So many BGR images of a size, with large and small details."""
    batch, *size = shape
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 200, (batch, 4, 4, 3))
    blocks = coarse.repeat(-(-size[0] // 4), 1).repeat(-(-size[1] // 4), 2)
    return list(
        (blocks[:, : size[0], : size[1]] + rng.integers(0, 56, (batch, *size, 3))).astype('uint8')
    )


def run(path: Path, image) -> list[torch.Tensor]:
    """What ONNX Runtime makes of a batch."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(str(path))
    return [torch.from_numpy(x) for x in session.run(None, {'image': np.asarray(image)})]


def preprocessed(model, given) -> torch.Tensor:
    """What the model's preprocessor makes of images, of their own size."""
    from mmdet.structures import DetDataSample

    inputs = [torch.from_numpy(image).permute(2, 0, 1) for image in given]
    samples = [DetDataSample(metainfo=dict(img_shape=x.shape[1:])) for x in inputs]
    return model.data_preprocessor(dict(inputs=inputs, data_samples=samples))['inputs']
