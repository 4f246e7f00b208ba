"""What scikit-learn's linear models say of themselves: steps, losses, subgradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse

from tamis.sever import losses

__all__ = [
    "checked_weights",
    "dense",
    "gives_probabilities",
    "is_hinge",
    "is_linear",
    "loss_of",
    "may_write",
    "predictions",
    "residual_limit",
    "steps",
    "subgradients",
    "weight_name",
]


def steps(estimator: Any) -> tuple[Any, Any]:
    """The transformer of a pipeline (None without one) and the model at its end."""
    from sklearn.pipeline import Pipeline, make_pipeline

    before = []
    while isinstance(estimator, Pipeline):  # pipelines may end in pipelines
        if len(estimator) > 1:
            before.append(estimator[:-1])
        estimator = estimator[-1]
    if not before:
        return None, estimator
    return before[0] if len(before) == 1 else make_pipeline(*before), estimator


def weight_name(estimator: Any) -> str:
    """By what keyword ``fit`` of a pipeline, or of a model, takes sample weights."""
    from sklearn.pipeline import Pipeline

    names = []
    while isinstance(estimator, Pipeline):
        names.append(estimator.steps[-1][0])
        estimator = estimator[-1]
    return "__".join([*names, "sample_weight"])


def may_write(estimator: Any) -> bool:
    """Whether fitting could change its input: a transformer's code, or a model that was told so."""
    from sklearn.pipeline import Pipeline

    return isinstance(estimator, Pipeline) or getattr(estimator, "copy_X", True) is False


def dense(coefficients: Any) -> Any:
    """What a model fitted to sparse examples may hold as a sparse matrix, as an array."""
    sparse = scipy.sparse.issparse(coefficients)
    return np.asarray(coefficients.toarray() if sparse else coefficients)


def checked_weights(sample_weight: Any, X: Any) -> Any:
    """None, or (n,) weights: a negative one would turn the example's gradient round."""
    from sklearn.utils.validation import _check_sample_weight

    if sample_weight is None:
        return None
    weight = _check_sample_weight(sample_weight, X)
    if (weight < 0.0).any():
        row = int(np.argmax(weight < 0.0))
        raise ValueError(f"sample_weight: expected numbers >= 0, got {weight[row]} in row {row}")
    return weight


def is_linear(model: Any) -> bool:
    """Whether a regressor predicts by ``coef_`` and ``intercept_`` alone."""
    from sklearn.linear_model import Ridge, SGDRegressor

    own = getattr(type(model), "predict", None)  # Ridge's is that of most linear regressors
    return own is Ridge.predict or own is SGDRegressor.predict


def predictions(model: Any, Z: Any) -> Any:
    """``model.predict(Z)`` of a regressor, float64 (n,); without its checks where it is linear."""
    if not is_linear(model):
        return np.asarray(model.predict(Z), dtype=np.float64).ravel()
    z = Z @ dense(model.coef_).ravel()
    z += model.intercept_
    return z


_OTHER_LOSSES = (  # of regressors with coef_; all others are taken to minimise squares
    "GammaRegressor",
    "LinearSVR",
    "NuSVR",
    "PassiveAggressiveRegressor",
    "PoissonRegressor",
    "QuantileRegressor",
    "SVR",
    "TheilSenRegressor",
    "TweedieRegressor",
)


def residual_limit(model: Any) -> float:
    """Where a regressor's loss turns from squared to linear, as Huber's does; infinite if nowhere.

    Raises
    ------
    TypeError, ValueError
        Not linear, or another loss.
    """
    name = type(model).__name__
    if name == "HuberRegressor":
        return float(model.epsilon * model.scale_)
    if name == "SGDRegressor" and model.loss == "huber":
        return float(model.epsilon)
    if name == "SGDRegressor" and model.loss != "squared_error":
        raise ValueError(f"estimator: no gradient is known of SGDRegressor's loss {model.loss!r}")
    if any(base.__name__ in _OTHER_LOSSES for base in type(model).__mro__):
        raise ValueError(
            f"estimator: no gradient is known of the loss of {name}; "
            "tamis.sever.sever takes any learner with its gradients"
        )
    if not hasattr(model, "coef_"):
        raise TypeError(
            f"estimator: expected a linear regressor (with coef_), got {name}; "
            "tamis.sever.sever takes any learner with its gradients"
        )
    return math.inf


def subgradients(model: Any, examples: int) -> Any:
    """The subgradients that ``SVC`` itself chose for two classes, (examples,); None for others.

    On the margin any number between -y and 0 is a subgradient of the hinge; the optimal dual
    variables over C are those that make the gradients sum to zero with the penalty's. Which side
    of the margin a support vector lies on is otherwise decided by the solver's tolerance.
    """
    if type(model).__name__ != "SVC" or len(model.classes_) > 2 or model.class_weight is not None:
        return None
    found = np.zeros(examples)
    found[model.support_] = -dense(model.dual_coef_)[0] / model.C
    return found


def gives_probabilities(classifier: Any) -> bool:
    """Whether the estimator of a `SeverClassifier` has ``predict_proba``; its default does."""
    base = getattr(classifier, "estimator_", classifier.estimator)
    return base is None or hasattr(base, "predict_proba")


def is_hinge(model: Any) -> bool:
    name, loss = type(model).__name__, getattr(model, "loss", None)
    return name == "SVC" or loss == "hinge"


def loss_of(model: Any) -> Any:
    name, loss = type(model).__name__, getattr(model, "loss", None)
    if name == "SVC":
        return losses.hinge
    if name.startswith("LogisticRegression"):  # or ...CV
        return losses.logistic
    if name.startswith("RidgeClassifier"):
        return losses.squared
    known = {
        "hinge": losses.hinge,
        "squared_hinge": losses.squared_hinge,
        "log_loss": losses.logistic,
        "modified_huber": losses.modified_huber,
    }
    if loss not in known:
        raise ValueError(f"estimator: no gradient is known of {name} with loss {loss!r}")
    return known[loss]
