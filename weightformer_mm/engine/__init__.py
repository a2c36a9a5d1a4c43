"""What mmengine calls an engine: runners, hooks and optimizers.

mmengine's root registries import them at the first lookup, as they do mmengine's own modules: importing
``mmengine.runner`` and ``mmengine.hooks`` loads OpenCV, which a backbone alone does not need.
"""

from mmengine import registry

from ..utils.patches import import_at_lookup

_OPTIMIZERS = (registry.OPTIMIZERS, registry.OPTIM_WRAPPERS, registry.OPTIM_WRAPPER_CONSTRUCTORS)
_RUNNER = (
    registry.DATA_SAMPLERS,
    registry.DATASETS,
    registry.FUNCTIONS,
    registry.LOOPS,
    registry.STRATEGIES,
)

import_at_lookup(f'{__name__}.optimizers', *_OPTIMIZERS)
import_at_lookup(f'{__name__}.hooks', registry.HOOKS)
import_at_lookup(f'{__name__}.runner', registry.HOOKS, *_RUNNER)
# hf:// for any script that builds a model or a runner
import_at_lookup('weightformer_mm.checkpoints.schemes', registry.HOOKS, registry.MODELS)
