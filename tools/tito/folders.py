"""Where tito keeps persistent data: in TINYTORCH_HOME if set, else in the user's data folder."""

import os
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """The folder of persistent data, such as the kits' flash images."""
    home = os.environ.get("TINYTORCH_HOME")
    return Path(home) if home else platformdirs.user_data_path("tinytorch")
