"""tamis under the conventions of other libraries; each module needs the one it is named after."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamis.compat import pyod

__all__ = ["pyod"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"tamis.compat.{name}")
    raise AttributeError(f"module 'tamis.compat' has no attribute {name!r}")
