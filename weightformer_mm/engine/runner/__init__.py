"""mmengine's runners, extended to resume exactly and to report an error in one line."""

from . import fsdp, loops, randomness  # noqa: F401
