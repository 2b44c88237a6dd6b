"""Makes the bytecode of what the named packages import, the standard library's too, and no other.

    PYTHONPYCACHEPREFIX=/opt/tinyfleet/bytecode python compile_imported.py tinyfleet edge_agents

An image has a read-only root: what is not compiled here is compiled again at each start. What
nobody imports would only take room: most of NumPy and of the standard library. Bytecode is marked
as taken for true without a look at its source, so that it holds no time and builds do not differ.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import py_compile
import sys
from pathlib import Path


def import_all(package: str) -> None:
    """Import a package's modules, except those that need what this image leaves out."""
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}.", onerror=lambda name: None):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except (ImportError, AttributeError) as error:  # the latter: a script for Alembic alone
            reason = str(error).strip().partition("\n")[0]
            print(f"{module.name} is not for this image: {reason}")


def sources() -> set[str]:
    """The source files of all modules that are loaded."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {file for file in files if file and file.endswith(".py") and Path(file).is_file()}


def main() -> None:
    """Compile what the packages of the command line import."""
    sys.dont_write_bytecode = True
    import numpy  # noqa: F401, ICN001 - a NumPy that does not load ends the build here

    for package in sys.argv[1:]:
        import_all(package)
    for file in sorted(sources() - {str(Path(__file__).resolve())}):
        py_compile.compile(
            file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )


if __name__ == "__main__":
    main()
