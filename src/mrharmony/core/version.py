"""The version of the package, and those of libraries."""

from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

__version__ = "0.1.0"


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of libraries by name, of those that are installed: extras may be missing."""
    found = {}
    for library in libraries:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found
