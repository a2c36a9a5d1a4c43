"""What mmengine calls an engine: runners, hooks and optimizers.

Importing this package registers its hooks, optimizer wrapper, sampler, sharding strategy and the constructor
for layer-wise learning rate decay in mmengine's root registries.
"""

from . import hooks, optimizers, runner

__all__ = ['hooks', 'optimizers', 'runner']
