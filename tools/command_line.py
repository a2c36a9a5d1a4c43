"""For the scripts beside it: finds the packages of the checkout where they are not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from weightformer_mm_cli.main import main  # noqa: E402, F401
from weightformer_mm_cli.options import add_config, add_config_options  # noqa: E402, F401
from weightformer_mm_cli.running import run  # noqa: E402, F401
