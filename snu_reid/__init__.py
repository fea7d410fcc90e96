"""Person re-identification from Python: ``from snu_reid import Extractor, build_index``.

In the wheel all packages lie below this one: ``snu_reid.engine``, ``snu_reid.datasets``, ...
"""

from typing import TYPE_CHECKING

from utils.version import VERSION

if TYPE_CHECKING:
    from inference.extract import Extractor
    from inference.index import build_index
else:

    def __getattr__(name: str) -> object:
        """Import a public name at its first use: torch takes seconds, which ``snu-reid --help`` does not have."""
        if name == "Extractor":
            from inference.extract import Extractor

            return Extractor
        if name == "build_index":
            from inference.index import build_index

            return build_index
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = VERSION
__all__ = ["Extractor", "__version__", "build_index"]
