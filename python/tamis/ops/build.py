"""info: what was built and what is in use."""

from __future__ import annotations

from typing import Any

from tamis import _core


def info() -> dict[str, Any]:
    """What was built and what is in use.

    Returns
    -------
    dict
        ``version``; ``isas_built``, ``isas_available`` and ``isa`` (in use; ``TAMIS_FORCE_ISA``
        chooses another); ``cuda``, a dict with ``built``, ``toolkit``, ``architectures``,
        ``driver``, ``status`` and ``devices``; ``num_threads``, the default of every function
        (``TAMIS_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the CPUs this process may use).
    """
    return {
        "version": _core.__version__,
        "isas_built": _core.built_isas(),
        "isas_available": _core.available_isas(),
        "isa": _core.active_isa(),
        "cuda": _core.cuda_info(),
        "num_threads": _core.default_num_threads(),
    }
