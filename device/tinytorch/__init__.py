"""TinyTorch on the board: `import tinytorch; model = tinytorch.Model(tinytorch.path("gesture"))`.

Names are imported when they are first used, so that a program pays only for what it uses.
"""

_NAMES = {"Model": "runtime", "path": "store", "models": "store", "serve": "agent"}


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(name)
    module = __import__("tinytorch." + _NAMES[name], None, None, (name,))
    return getattr(module, name)
