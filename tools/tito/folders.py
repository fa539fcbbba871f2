"""Where tito keeps what must last: in TINYTORCH_HOME if it is set, else in the user's folder."""

import os
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """The folder of what must last, such as the kits' flash images."""
    home = os.environ.get("TINYTORCH_HOME")
    return Path(home) if home else platformdirs.user_data_path("tinytorch")
