"""What a model runs on: boards on a serial port, virtual and emulated kits."""

from tito.kits.open import Kit, open_kit

__all__ = ["Kit", "open_kit"]
