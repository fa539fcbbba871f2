"""Modules that can be imported by a short name as well: one module, two names."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def install(package: str, homes: Mapping[str, str]) -> None:
    """Let `import package.short` find the module package.homes[short]."""
    sys.meta_path.append(_ShortNames(package, homes))


class _ShortNames(MetaPathFinder, Loader):
    def __init__(self, package: str, homes: Mapping[str, str]) -> None:
        self._homes = {f"{package}.{short}": f"{package}.{home}" for short, home in homes.items()}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self._homes else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._homes[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The import system has put the short name's spec on the module: put its own back."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state
