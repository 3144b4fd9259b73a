"""Find and ask your own videos and images, in any language, on your own machines.

>>> import ivsearch
>>> lib = ivsearch.open_library("indexes/default")      # doctest: +SKIP
>>> for event in lib.index(["./videos"]): print(event)  # doctest: +SKIP
>>> lib.search("a cat on a sofa", k=10)                 # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ivsearch.library import Library, open_library

__version__ = "0.1.0"
__all__ = ["Library", "__version__", "open_library"]


def __getattr__(name: str) -> object:
    # Lazy, so that `import ivsearch` and `ivsearch --help` stay instant.
    if name in ("Library", "open_library"):
        from ivsearch import library

        return getattr(library, name)
    raise AttributeError(f"module 'ivsearch' has no attribute {name!r}")
