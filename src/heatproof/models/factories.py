"""A factory in a file of the user's: the file is run, and what it imports from its own folder is its own."""

import builtins
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from heatproof.errors import HeatproofError, ModelError, NoSuchModel, did_you_mean

_LOCK = threading.RLock()
_MODULES: dict[Path, dict[str, ModuleType]] = {}
"""Of each folder with a factory, the modules that were imported from it."""


def made_by(path: Path, name: str, options: Mapping[str, Any]) -> Any:
    """What the function ``name`` of the file returns.

    Files that lie beside it may be imported as when it is run from its own folder. Two folders may have files of the
    same name: each factory gets its own, also where it imports later, in a forward pass.

    Raises:
        ModelError: there is no such function, or whatever the user's code raises, as his.
    """
    folder = path.resolve().parent
    # known by its name while it runs, as dataclasses want it, and by another than that of any other file
    digest = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    module_name = f"_heatproof_user_{digest}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_Loader(module_name, str(path), folder))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with _among(folder):
            sys.modules[module_name] = module
            spec.loader.exec_module(module)
            factory = getattr(module, name, None)
            if not callable(factory):
                here = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module_name]
                raise NoSuchModel(f"{path} has no factory {name!r}; {did_you_mean(name, here)}")
            return factory(**options)
    except HeatproofError:
        raise
    except SystemExit as stop:
        raise ModelError(
            f"{path}:{name} ended the program (exit {stop.code}) where a network was expected; what a script does when "
            'it is run belongs under `if __name__ == "__main__":`'
        ) from stop
    # whatever the user's own code raises is told as his
    except Exception as error:
        raise ModelError(f"{path}:{name} failed: {type(error).__name__}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an exception says, in one line of at most 300 letters."""
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), "no reason given")


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs a file with an ``import`` that knows the file's folder."""

    def __init__(self, name: str, path: str, folder: Path):
        super().__init__(name, path)
        self.folder = folder

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import_of(self.folder)}
        super().exec_module(module)


class _Finder:
    """Finds the modules of one folder before those of the same name elsewhere."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        places = [str(self.folder)] if path is None else [p for p in path if _within(Path(p), self.folder)]
        spec = importlib.machinery.PathFinder.find_spec(name, places, target) if places else None
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader) or not spec.origin:
            return None
        spec.loader = _Loader(name, spec.origin, self.folder)
        return spec


def _import_of(folder: Path) -> Any:
    def own_import(
        name: str, globals: Mapping[str, Any] | None = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        top = (str((globals or {}).get("__package__") or "") if level else name).partition(".")[0]
        known = sys.modules.get(top)
        if top not in _names(folder) or (known is not None and _of(known, folder)):
            return builtins.__import__(name, globals, locals, fromlist, level)
        with _among(folder):
            return builtins.__import__(name, globals, locals, fromlist, level)

    return own_import


@contextmanager
def _among(folder: Path) -> Generator[None]:
    """While this lasts, the folder's modules are the ones that their names mean."""
    with _LOCK:
        names = _names(folder)
        foreign = {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] in names and not _of(sys.modules.get(name.partition(".")[0]), folder)
        }
        for name in foreign:
            del sys.modules[name]
        modules = _MODULES.setdefault(folder, {})
        sys.modules.update({name: module for name, module in modules.items() if name not in sys.modules})
        importlib.invalidate_caches()
        finder = _Finder(folder)
        sys.meta_path.insert(0, finder)
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            if str(folder) in sys.path:
                sys.path.remove(str(folder))
            modules |= {
                n: m for n, m in sys.modules.items() if n.partition(".")[0] in names and m is not foreign.get(n)
            }
            if foreign:
                taken = {name.partition(".")[0] for name in foreign}
                for name in [name for name in sys.modules if name.partition(".")[0] in taken]:
                    del sys.modules[name]
                sys.modules.update(foreign)


def _names(folder: Path) -> set[str]:
    """What may be imported from a folder by name; Python's own names stay Python's."""
    try:
        inside = list(folder.iterdir())
    except OSError:
        return set()
    files = {entry.stem for entry in inside if entry.suffix == ".py"}
    packages = {entry.name for entry in inside if (entry / "__init__.py").is_file()}
    return (files | packages) - sys.stdlib_module_names


def _of(module: ModuleType | None, folder: Path) -> bool:
    """Whether a module was loaded from the folder."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and _within(Path(file), folder)


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder)
