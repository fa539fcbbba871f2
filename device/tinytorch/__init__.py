"""TinyTorch on the board: `import tinytorch; model = tinytorch.Model(tinytorch.path("gesture"))`.

Names are imported when they are first used, so that a program pays only for what it uses.
"""

_HOMES = {
    "Model": "tinytorch.runtime",
    "Motion": "tinytorch_core.dsp",
    "INMP441": "tinytorch.sensors.i2s",
    "Listener": "tinytorch_core.listener",
    "detector_of": "tinytorch_core.detector",
    "MPU6050": "tinytorch.sensors.mpu6050",
    "Tensor": "tinytorch_core.tensor",
    "path": "tinytorch.store",
    "models": "tinytorch.store",
    "serve": "tinytorch.agent",
}
_MODULES = {"nn": "tinytorch_core.nn"}


def __getattr__(name):
    home = _HOMES.get(name)
    try:
        module = __import__(home or _MODULES.get(name, "tinytorch." + name), None, None, (name,))
    except ImportError:
        raise AttributeError(name) from None
    return getattr(module, name) if home else module
