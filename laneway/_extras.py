"""Check that the packages of an optional dependency group are installed, before anything of the group is imported."""

from __future__ import annotations

from importlib.util import find_spec


def require(extra: str, packages: tuple[str, ...], *, what: str) -> None:
    """Raise ImportError with the command to install, when a package is missing. Imports none of the packages."""
    if not all(map(_is_installed, packages)):
        raise ImportError(f"{what} needs the extra: pip install 'laneway[{extra}]'")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
