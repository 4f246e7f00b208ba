"""`SeverRegressor` and `SeverClassifier`: SEVER around linear models of scikit-learn."""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tamis.estimators._validation import thread_number
from tamis.sever import losses
from tamis.sever._linear_models import (
    checked_weights,
    dense,
    gives_probabilities,
    is_hinge,
    is_linear,
    loss_of,
    may_write,
    predictions,
    residual_limit,
    steps,
    subgradients,
    weight_name,
)
from tamis.sever._second_moments import is_native
from tamis.sever._sets import Arranged, RowBuffer
from tamis.sever.driver import sever
from tamis.sever.gradients import OuterGradients, RegressionGradients

__all__ = ["SeverClassifier", "SeverRegressor"]


_EXAMPLES: dict[str, Any] = {
    "accept_sparse": "csr",
    "dtype": np.float64,
    "order": "C",  # the native kernels read rows
    "ensure_min_samples": 2,
}


@dataclasses.dataclass(frozen=True)
class _Fitted(Arranged):
    estimator: Any
    rows: Any  # numbers of the examples it was fitted on
    examples: Any  # and those


class _SeverBase(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """What both have in common."""

    def __init__(
        self,
        estimator: Any = None,
        contamination: float = 0.1,
        *,
        rounds: int = 4,
        fraction: float | None = None,
        rule: str = "top",
        readmit: Any = True,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.contamination = contamination
        self.rounds = rounds
        self.fraction = fraction
        self.rule = rule
        self.readmit = readmit
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _run(
        self,
        X: Any,
        y: Any,
        weight: Any,
        base: Any,
        per_class: Any,
        readmit: bool,
        rounds: int,
        fraction: float | None,
        n_directions: int,
    ) -> None:
        n = X.shape[0]
        fresh = clone(base)  # a class in place of an instance is told by clone
        shared = not may_write(fresh)
        survivors = RowBuffer(X) if shared and not issparse(X) else None

        def taken(rows: Any) -> tuple[Any, Any]:
            """The examples, and their numbers in the order in which they come."""
            if shared and len(rows) == n:
                return X, np.arange(n)
            return (X[rows], rows) if survivors is None else survivors.take(rows)

        def fit(rows: Any) -> _Fitted:
            model = copy.deepcopy(fresh)  # a clone of a clone, in less time
            keywords = {}
            examples, rows = taken(rows)
            if weight is not None:
                keywords[weight_name(model)] = weight[rows]
            model.fit(examples, y[rows], **keywords)
            return _Fitted(model, rows, examples if shared else X[rows])

        def gradients(fitted: _Fitted, rows: Any) -> OuterGradients | RegressionGradients:
            """At the rows that the model was fitted on, in their order, or at all."""
            before, last = steps(fitted.estimator)
            Z, target, own_weight = X, y, weight
            share = None
            if len(rows) == len(fitted.rows):
                Z, target = fitted.examples, y[rows]
                own_weight = None if weight is None else weight[rows]
            else:
                if not shared:
                    Z = X[rows]
                share = np.zeros(n)
                share[fitted.rows] = 1.0 / len(fitted.rows)
            if before is not None:
                with config_context(assume_finite=True):  # they have been checked
                    Z = before.transform(Z)
            intercept = bool(getattr(last, "fit_intercept", True))
            if intercept and (found := self._in_one_read(last, Z, target, own_weight, share)):
                return found
            a = self._derivatives(last, Z, target)
            dual = subgradients(last, len(fitted.rows))
            if dual is not None:
                a[slice(None) if share is None else fitted.rows] = dual
            if weight is not None:
                a = a * (own_weight if a.ndim == 1 else own_weight[:, None])
            if not intercept:
                return OuterGradients(a, Z)
            if share is None:
                share = np.full(len(a), 1.0 / len(a))
            return OuterGradients(a, Z, intercept=True, center_weights=share)

        result = sever(
            fit,
            gradients,
            n,
            contamination=self.contamination,
            rounds=rounds,
            fraction=fraction,
            rule=self.rule,  # type: ignore[arg-type]
            per_class=per_class,
            readmit=readmit,
            n_directions=n_directions,
            random_state=self.random_state,
            num_threads=thread_number(self.n_jobs),
        )
        self.estimator_ = result.model.estimator
        self.support_ = result.support
        self.outlier_scores_ = result.scores
        self.history_ = result.history
        self.stop_reason_ = result.stop_reason

    @abstractmethod
    def _derivatives(self, model: Any, Z: Any, y: Any) -> Any:
        """Of every example's loss by the model's predictors, (n,) or (n, m)."""

    def _in_one_read(
        self, model: Any, Z: Any, y: Any, weight: Any, share: Any
    ) -> RegressionGradients | None:
        """Gradients about the mean by ``share`` that the native code finds as it reads; or None."""
        return None

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self, "estimator_")
        return validate_data(self, X, accept_sparse="csr", reset=False)

    def predict(self, X: Any) -> Any:
        """``estimator_.predict(X)``, (m,)."""
        X = self._checked(X)
        return self.estimator_.predict(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class SeverRegressor(RegressorMixin, _SeverBase):  # type: ignore[misc]
    """A linear regression that a minority of bad examples cannot steer.

    Parameters
    ----------
    estimator : regressor, optional
        Ridge (default), LinearRegression, HuberRegressor, SGDRegressor with one of their losses, or
        a pipeline that ends in one.
    contamination : float in [0, 0.5)
        Share of bad examples.
    rounds, fraction, rule, readmit, random_state
        As in `tamis.sever.sever`.
    n_jobs : int, optional
        Threads of the native kernels.

    Attributes
    ----------
    estimator_ : the base estimator, fitted on the examples of ``support_``
    support_ : bool array of shape (n,)
    outlier_scores_ : array of shape (n,)
        Higher for examples whose gradient lies farther out.
    history_ : tuple of SeverRound
    stop_reason_ : str
        As in `tamis.sever.SeverResult`.

    Notes
    -----
    Gradients are those of the loss alone, by slopes and intercept, with the examples taken about
    the mean of the survivors: there the intercept does not mix with the slopes. Without that, the
    mean of X dominates the gradients' covariance and hides the poison (docs/sever.md).

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.sever import SeverRegressor
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = X @ [1.0, 2.0, 3.0]
    >>> y[:10] = 50.0
    >>> SeverRegressor(contamination=0.05).fit(X, y).estimator_.coef_.round(1).tolist()
    [1.0, 2.0, 3.0]
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SeverRegressor:
        """Fit to all but the bad examples.

        Parameters
        ----------
        X : array or sparse matrix of shape (n, d)
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional
        """
        X, y = validate_data(self, X, y, y_numeric=True, **_EXAMPLES)
        weight = checked_weights(sample_weight, X)
        base = Ridge() if self.estimator is None else self.estimator
        if not isinstance(self.readmit, bool | np.bool_):
            raise ValueError(f"readmit: expected True or False, got {self.readmit!r}")
        self._run(X, y, weight, base, None, bool(self.readmit), self.rounds, self.fraction, 1)
        return self

    def _derivatives(self, model: Any, Z: Any, y: Any) -> Any:
        limit = residual_limit(model)
        return losses.huber(predictions(model, Z), y, limit)

    def _in_one_read(
        self, model: Any, Z: Any, y: Any, weight: Any, share: Any
    ) -> RegressionGradients | None:
        limit = residual_limit(model)
        if not (is_linear(model) and limit > 0.0 and is_native(Z)):
            return None
        return RegressionGradients(
            Z,
            y,
            dense(model.coef_).ravel(),
            float(np.ravel(model.intercept_)[0]),
            epsilon=limit,
            weights=weight,
            center_weights=share,
        )


class SeverClassifier(ClassifierMixin, _SeverBase):  # type: ignore[misc]
    """A linear classifier that a minority of bad examples cannot steer.

    Parameters
    ----------
    estimator : classifier, optional
        LogisticRegression (default), LinearSVC, ``SVC(kernel="linear")``, SGDClassifier,
        RidgeClassifier, or a pipeline that ends in one.
    contamination : float in [0, 0.5)
        Share of bad examples, in every class.
    readmit : bool or "auto"
        As in `tamis.sever.sever`; "auto" (default) does it where the loss is smooth: not with a
        hinge.
    rounds : int, optional
        Default 4; with a hinge 2, the published number: what is dropped there stays dropped.
    fraction : float, optional
        As in `tamis.sever.sever`; with a hinge ``contamination / 2`` by default.
    rule, random_state, n_jobs
        As in `SeverRegressor`.

    Attributes
    ----------
    classes_ : array of shape (K,)
    estimator_, support_, outlier_scores_, history_, stop_reason_
        As in `SeverRegressor`. Classes are filtered one by one; the scores of different classes
        are in the same unit, that of the gradient.

    Notes
    -----
    With a hinge most gradients are 0, and scores are measured along three directions instead of
    one: spam e-mails that are much alike fill the first, and stored poison hid behind it
    (docs/sever.md). For ``SVC`` gradients are weighted by the dual variables, which settle the
    subgradient of support vectors on the margin.
    """

    def __init__(
        self,
        estimator: Any = None,
        contamination: float = 0.1,
        *,
        rounds: int | None = None,
        fraction: float | None = None,
        rule: str = "top",
        readmit: Any = "auto",
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(
            estimator,
            contamination,
            rounds=rounds,  # type: ignore[arg-type]
            fraction=fraction,
            rule=rule,
            readmit=readmit,
            random_state=random_state,
            n_jobs=n_jobs,
        )

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SeverClassifier:
        """Fit to all but the bad examples.

        Parameters
        ----------
        X : array or sparse matrix of shape (n, d)
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional
        """
        X, y = validate_data(self, X, y, **_EXAMPLES)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y: expected at least two classes, got one class: {self.classes_[0]!r} (1 class)"
            )
        weight = checked_weights(sample_weight, X)
        base = LogisticRegression() if self.estimator is None else self.estimator
        hinge = is_hinge(steps(base)[1])
        if not (self.readmit == "auto" or isinstance(self.readmit, bool | np.bool_)):
            raise ValueError(f'readmit: expected True, False or "auto", got {self.readmit!r}')
        readmit = not hinge if self.readmit == "auto" else bool(self.readmit)
        rounds, fraction = self.rounds, self.fraction
        if rounds is None:
            rounds = 2 if hinge else 4
        if fraction is None and hinge and 0.0 < self.contamination < 0.5:
            fraction = self.contamination / 2
        self._run(X, y, weight, base, y, readmit, rounds, fraction, 3 if hinge else 1)
        return self

    def decision_function(self, X: Any) -> Any:
        """``estimator_.decision_function(X)``."""
        X = self._checked(X)
        return self.estimator_.decision_function(X)

    @available_if(gives_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """``estimator_.predict_proba(X)``, of estimators that have it, (m, K)."""
        X = self._checked(X)
        return self.estimator_.predict_proba(X)

    def _derivatives(self, model: Any, Z: Any, y: Any) -> Any:
        codes = np.searchsorted(self.classes_, y)
        name = type(model).__name__
        if not hasattr(model, "coef_"):
            raise TypeError(
                f"estimator: expected a linear classifier (with coef_), got {name}; "
                "tamis.sever.sever takes any learner with its gradients"
            )
        z = np.asarray(Z @ np.atleast_2d(dense(model.coef_)).T) + model.intercept_
        count = len(self.classes_)
        derivative = loss_of(model)
        if count == 2:
            return derivative(z[:, 0], 2.0 * codes - 1.0)
        if (
            name.startswith("LogisticRegression")
            and getattr(model, "multi_class", "") != "ovr"
            and (model.solver != "liblinear")
        ):
            return losses.multinomial(z, codes)
        if z.shape[1] == count:  # one against the rest
            return derivative(z, np.where(codes[:, None] == np.arange(count), 1.0, -1.0))
        first, second = np.triu_indices(count, 1)  # SVC: one against one, positive for the first
        member = (codes[:, None] == first) | (codes[:, None] == second)
        sign = np.where(codes[:, None] == first, 1.0, -1.0)
        return derivative(z, sign) * member
