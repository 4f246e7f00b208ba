"""What the estimators inherit: scikit-learn's classes where it is installed, else small stand-ins.

The one place that asks for scikit-learn, and the reason why `import tamis` does not import the
estimators: they load with the first use of one.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

__all__ = ["BaseEstimator", "NotFittedError", "OutlierMixin", "TransformerMixin"]


class _Parameters:
    """Parameters that are the arguments of ``__init__``, as scikit-learn has them."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of ``__init__`` and their values; ``deep`` is of no consequence here."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in sorted(names)}

    def set_params(self, **params: Any) -> Any:
        """Set arguments of ``__init__``; returns the estimator."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}, but {', '.join(known)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """The class, and the parameters that differ from their defaults."""
        parameters = inspect.signature(type(self).__init__).parameters
        changed = (
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not parameters[name].default and value != parameters[name].default
        )
        return f"{type(self).__name__}({', '.join(changed)})"


class _Outliers:
    """Marks an outlier detector for scikit-learn; nothing to mark without it."""


class _Transforms:
    """`fit_transform`, as scikit-learn has it."""

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """``fit(X).transform(X)``."""
        estimator: Any = self
        return estimator.fit(X).transform(X)


class _NotFittedError(ValueError, AttributeError):
    """An estimator was asked for results before it was fitted."""


if TYPE_CHECKING:
    BaseEstimator = _Parameters
    OutlierMixin = _Outliers
    TransformerMixin = _Transforms
    NotFittedError = _NotFittedError
else:
    try:
        from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
        from sklearn.exceptions import NotFittedError
    except ImportError:
        BaseEstimator, OutlierMixin, NotFittedError = _Parameters, _Outliers, _NotFittedError
        TransformerMixin = _Transforms
