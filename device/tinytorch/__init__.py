"""TinyTorch on the board: `import tinytorch; model = tinytorch.Model(tinytorch.path("gesture"))`.

Names are imported when they are first used, so that a program pays only for what it uses.
"""

_HOMES = {"Model": "runtime", "path": "store", "models": "store", "serve": "agent"}


def __getattr__(name):
    try:
        module = __import__("tinytorch." + _HOMES.get(name, name), None, None, (name,))
    except ImportError:
        raise AttributeError(name) from None
    return getattr(module, name) if name in _HOMES else module
