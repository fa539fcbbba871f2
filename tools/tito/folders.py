"""Where tito keeps things: TINYTORCH_HOME if it is set, else the user's own folders."""

import os
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """The folder of what must last, such as the kits' flash images."""
    home = os.environ.get("TINYTORCH_HOME")
    return Path(home) if home else platformdirs.user_data_path("tinytorch")


def cache_folder() -> Path:
    """The folder of what can be fetched again."""
    home = os.environ.get("TINYTORCH_HOME")
    return Path(home) / "cache" if home else platformdirs.user_cache_path("tinytorch")
