"""Write a model as a file that runs without this package, and see that it gives what the model gives."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..utils.translate import blamed
from ..utils.writing import make_folder, refuse_replacing, written_whole
from ..version import __version__
from .exportable import Classifier, Exportable, Features, Segmentor, use_size_free_layers
from .exportable_detectors import Detector, SingleStage, TwoStage
from .exportable_instances import InstanceKernels
from .exported_model import is_exported, need_onnx, onnx_session
from .predictor import init_model

SUFFIXES = {'onnx': '.onnx', 'torch-export': '.pt2', 'torchscript': '.pt'}  # by format
SIZE, BATCH = 'size', 'batch'
OPSET = 17  # has LayerNorm as one operator
TOLERANCE = 1e-4  # sums over all tokens, in another order
HALF_TOLERANCE = 2e-2  # some forty times the rounding of a number
METADATA = 'metadata.json'  # in files of torch
_TRACED = (224, 224)
# odd and even sides and maps, wide and high
_SIZES = ((33, 47), (64, 64), (97, 161), (144, 144), (256, 192), (80, 112))
_CHECKS = 5


@dataclass(frozen=True)
class Form:
    """The form of an exported file.

    Attributes:
        kind: one of `SUFFIXES`.
        size: height and width of the images that are traced, and the only size unless ``dynamic`` has it.
        dynamic: which of 'size' and 'batch' may be others than the traced ones.
        opset: of ONNX; default: 17.
        half: ONNX computes and keeps its weights in float16; images and outputs stay as they are.
    """

    kind: str = 'onnx'
    size: tuple[int, int] | None = None
    dynamic: Sequence[str] = (SIZE, BATCH)
    opset: int | None = None
    half: bool = False

    def tolerance(self) -> float:
        """The largest difference from the model, in units of the largest value."""
        return HALF_TOLERANCE if self.half else TOLERANCE

    def traced(self) -> tuple[int, int, int]:
        """Batch, height and width; some exporters would keep a batch of 1 for all."""
        return (2 if BATCH in self.dynamic else 1), *(self.size or _TRACED)

    def untraced(self) -> Iterator[tuple[int, int, int]]:
        """Batches, heights and widths that the file must take, as far as possible others than the traced."""
        traced = self.traced()
        sizes = [size for size in _SIZES if size != traced[1:]][:_CHECKS]
        for index, size in enumerate(sizes if SIZE in self.dynamic else [traced[1:]] * 3):
            yield (index % 3 + 1 if BATCH in self.dynamic else traced[0]), *size

    def free_axes(self, axes: dict[int, str]) -> dict[int, str]:
        """Those that may be of any length."""
        return {axis: name for axis, name in axes.items() if self._is_free(name)}

    def _is_free(self, name: str) -> bool:
        return (BATCH if name == 'batch' else SIZE) in self.dynamic


def export(
    config: Any,
    checkpoint: Any,
    out: Any,
    form: Form,
    backbone: bool = False,
    with_preprocessing: bool = False,
    options: Sequence[str] = (),
) -> Path:
    """Write the file ``out`` and return its path, if what it computes is what the model computes.

    It is compared at sizes and batches that were not traced, and appears only if all of them agree.

    Args (the others: see `weightformer_mm.apis`):
        out: ends in what `SUFFIXES` says.
        backbone, with_preprocessing: see `exportable`.

    Raises:
        UserError: bad input, the model cannot be exported, or the file would not be right.
        LibraryMissing: ONNX, or ONNX Runtime, is not installed.
    """
    path = Path(out).expanduser()
    _check(path, form)
    read = [name for name in (config, checkpoint) if isinstance(name, (str, os.PathLike))]
    refuse_replacing('--out', [path], read)
    if is_exported(checkpoint):
        raise UserError(f'{checkpoint}: exported already; name a checkpoint')
    make_folder(path.parent, '--out')
    model = init_model(config, checkpoint, 'cpu', options).requires_grad_(False)
    name, metadata = type(model).__name__, _metadata(model, backbone)
    network = exportable(model, backbone, with_preprocessing).eval()
    generator = torch.Generator().manual_seed(0)
    image = network.example(form.traced(), generator)
    if form.half and isinstance(network, Detector):
        raise UserError(
            '--fp16: not for detectors: which boxes they keep depends on the last digits'
        )
    if form.size not in (None, network.size(image)):
        raise UserError(f'--size: the model takes multiples of {network.multiple} pixels')
    write, load = _WAYS[form.kind]
    with torch.no_grad(), warnings.catch_warnings(), written_whole(path) as partial:
        # exporters warn of every number that they keep, and of themselves
        warnings.simplefilter('ignore')
        with blamed(f'{name} cannot be exported'):
            write(network, image, partial, form, metadata)
            run = load(partial)
        _compare(network, run, form, generator)
    print(f'{path}: {path.stat().st_size / 2**20:.1f} MB', flush=True)
    return path


def exportable(model: nn.Module, backbone: bool, with_preprocessing: bool) -> Exportable:
    """The module that a file holds, made of a model of `init_model`, which changes.

    Args:
        backbone: only the maps of its backbone.
        with_preprocessing: of images as they are loaded; otherwise of what the preprocessor makes of them.

    Raises:
        UserError: nothing is known to export such a model.
    """
    kinds = (Features, Segmentor, Classifier, SingleStage, TwoStage, InstanceKernels)
    fitting = [kind for kind in kinds if kind.fits(model, backbone)]
    if not fitting:
        known = (
            'segmentors with model.test_cfg.mode=whole, but for Mask2Former, classifiers with one label '
            'for an image, and detectors with the heads of RetinaNet, RTMDet, RTMDet-Ins, FCOS, Faster or '
            'Mask R-CNN'
        )
        advice = f'{known} can; add --backbone for the maps of its backbone'
        advice = '--backbone, and it has none' if backbone else advice
        raise UserError(f'{type(model).__name__} cannot be exported: {advice}')
    use_size_free_layers(model)
    return fitting[0](model, with_preprocessing)


def _check(path: Path, form: Form) -> None:
    suffix = SUFFIXES[form.kind]
    if path.suffix != suffix:
        raise UserError(f'--out {path}: a file of --format {form.kind} ends in {suffix}')
    if path.is_dir():
        raise UserError(f'--out {path}: a folder; name a file')
    if form.size is None and SIZE not in form.dynamic:
        raise UserError('--dynamic without size: say the size of all images with --size H W')
    if form.size is not None and min(form.size) < 1:
        raise UserError(
            f'--size {form.size[0]} {form.size[1]}: expected positive numbers of pixels'
        )
    if form.opset is not None and (form.kind != 'onnx' or form.opset < OPSET):
        raise UserError(f'--opset {form.opset}: expected {OPSET} or more, with --format onnx')
    if form.half and form.kind != 'onnx':
        raise UserError(f'--fp16: needs --format onnx, not {form.kind}')
    if form.kind == 'onnx':
        need_onnx('onnx', 'onnxruntime')
    runs = inspect.signature(torch.export.ExportedProgram.module).parameters
    if form.kind == 'torch-export' and 'check_guards' not in runs:
        raise UserError(f'--format torch-export: needs torch >= 2.9, not {torch.__version__}')


def _metadata(model: Any, backbone: bool) -> dict[str, str]:
    """What a file says of its model; classes, palette and strides as JSON."""
    facts = {key: model.dataset_meta.get(key) for key in ('classes', 'palette')}
    if backbone:
        facts['strides'] = getattr(getattr(model, 'backbone', None), 'out_strides', None)
    texts = {key: json.dumps(value) for key, value in facts.items() if value is not None}
    return {'version': __version__, 'config': model.cfg.pretty_text, **texts}


def _compare(network: Exportable, run: Callable, form: Form, generator: torch.Generator) -> None:
    for shape in form.untraced():
        image = network.example(shape, generator)
        place = 'a batch of {}, {}x{} pixels'.format(len(image), *network.size(image))
        with blamed(f'not exported: with {place} the file fails'):
            outputs = run(image)
        difference = network.difference(image, outputs)
        print(f'{place}: largest difference {difference:.1e}', flush=True)
        if not difference <= form.tolerance():
            raise UserError(
                f'not exported: with {place} the file differs from the model by {difference:.1e}, '
                f'more than {form.tolerance():.0e}'
            )


def _write_onnx(
    network: Exportable, image: Tensor, path: Path, form: Form, metadata: dict[str, str]
) -> None:
    import onnx

    results = network(image)
    results = [results] if isinstance(results, Tensor) else results
    names = network.names(len(results))
    axes = {'image': form.free_axes(network.axes)}
    for name, result in zip(names, results):
        lengths = zip(network.sides(result), (f'{name}_height', f'{name}_width'))
        axes[name] = form.free_axes({0: 'batch', **dict(lengths)})
    # the older exporter, which alone is right for every strategy; the newer one is torch's default
    torch._C._jit_set_onnx_log_enabled(False)  # it would print the whole graph on an error
    older = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        network,
        (image,),
        str(path),
        input_names=['image'],
        output_names=names,
        dynamic_axes=axes,
        opset_version=form.opset or OPSET,
        **older,
    )
    model = onnx.load(str(path))
    if form.half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        # outside of the layers: pixels, which float16 does not tell apart
        others = [node.name for node in model.graph.node if node.name.count('/') < 2]
        model = convert_float_to_float16(model, keep_io_types=True, node_block_list=others)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(path))


def _load_onnx(path: Path) -> Callable[[Tensor], list[Tensor]]:
    session = onnx_session(path)
    return lambda image: [
        torch.from_numpy(output) for output in session.run(None, {'image': image.numpy()})
    ]


def _write_program(
    network: Exportable, image: Tensor, path: Path, form: Form, metadata: dict[str, str]
) -> None:
    axes = {axis: torch.export.Dim.DYNAMIC for axis in form.free_axes(network.axes)}
    # maps of one pixel a side are like others
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        program = torch.export.export(network, (image,), dynamic_shapes=(axes,), strict=False)
    torch.export.save(program, str(path), extra_files={METADATA: json.dumps(metadata)})


def _load_program(path: Path) -> Callable[[Tensor], list[Tensor]]:
    # it notes whether sides are odd, on which nothing depends
    return _listed(torch.export.load(str(path)).module(check_guards=False))


def _write_script(
    network: Exportable, image: Tensor, path: Path, form: Form, metadata: dict[str, str]
) -> None:
    traced = torch.jit.trace(network, image, check_trace=False)
    torch.jit.save(traced, str(path), _extra_files={METADATA: json.dumps(metadata)})


def _load_script(path: Path) -> Callable[[Tensor], list[Tensor]]:
    return _listed(torch.jit.load(str(path)))


def _listed(run: Callable) -> Callable[[Tensor], list[Tensor]]:
    def listed(image: Tensor) -> list[Tensor]:
        result = run(image)
        return [result] if isinstance(result, Tensor) else list(result)

    return listed


_WAYS = {
    'onnx': (_write_onnx, _load_onnx),
    'torch-export': (_write_program, _load_program),
    'torchscript': (_write_script, _load_script),
}
