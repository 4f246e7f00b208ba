"""What logs say: the published tables, the guarantees, and the plots.

Oracles: the table of expected accuracies beside the published logs, scipy.stats, and direct
definitions written out in the tests. One file, past the usual 400 lines, beside its one module.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tamis import analysis, plotting
from tamis.analysis import AnalysisWarning, CertificationLog, load_log

RADII = ("0.25", "0.50", "0.75", "1.00", "1.25", "1.50", "1.75", "2.00", "2.25")
COHEN = "slide:Cohen et al."
OURS = "slide:Ours"
COHEN_FULL = "repo latex_new cohen full test set"
WITHOUT_LOGS = (
    "repo latex_new ours full",
    "repo latex_new pretraining full",
    "repo latex_new self_training full",
    "repo latex_new pretraining_self_training full",
)
LOGS = {
    COHEN: "original500/cohen/*.tsv",
    OURS: "original500/smoothadv/*.tsv",
    COHEN_FULL: "cohen_cifar10_resnet110_sigma*.tsv.xz",
}


@cache
def published(data_dir: Path, table: str) -> list[CertificationLog]:
    return [
        load_log(path, strict=True) for path in sorted(data_dir.glob(f"certify_logs/{LOGS[table]}"))
    ]


@cache
def expected(data_dir: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(data_dir / "expected_certified_accuracy.csv", newline="") as file:
        return {(row["table"], row["radius"]): row for row in csv.DictReader(file)}


def local_name(table: str, argmax_file: str) -> str:
    """What the file that the table names is called here."""
    middle, noise = argmax_file.rpartition("/test/sigma_")[::2]
    if table == COHEN:
        return f"noise_{noise}.sigma_{noise}.tsv"
    if table == COHEN_FULL:
        return f"cohen_cifar10_resnet110_sigma{noise}.tsv.xz"
    model = middle.removeprefix("data/certify/cifar10/").partition("/cifar10/")[0]
    return f"{model.replace('/', '__')}__noise_{noise}__sigma_{noise}.tsv"


def make(radius: Any, correct: Any = None, abstain: Any = None, **more: Any) -> CertificationLog:
    radius = np.asarray(radius, np.float64)
    correct = np.ones(radius.size, bool) if correct is None else np.asarray(correct, bool)
    abstain = np.zeros(radius.size, bool) if abstain is None else np.asarray(abstain, bool)
    columns: dict[str, Any] = {
        "idx": np.arange(radius.size),
        "label": np.full(radius.size, 3),
        "predict": np.where(abstain, -1, np.where(correct, 3, 5)),
        "radius": np.where(abstain, 0.0, radius),
        "correct": correct & ~abstain,
    }
    return CertificationLog(**columns | more)


def random_log(size: int, seed: int) -> CertificationLog:
    rng = np.random.default_rng(seed)
    radius = np.round(rng.exponential(0.4, size), 2)  # many ties
    return make(radius, rng.random(size) < 0.7, rng.random(size) < 0.1)


# ---------------------------------------------------------------- published numbers


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("table", LOGS)
def test_published_table(data_dir: Path, table: str, radius: str) -> None:
    """Oracle: expected_certified_accuracy.csv, value, winning log and its clean accuracy."""
    row = expected(data_dir)[table, radius]
    logs = published(data_dir, table)
    envelope = analysis.upper_envelope(logs, [float(radius)])
    assert envelope.values[0] == pytest.approx(float(row["certified_accuracy"]), abs=1e-6)
    assert envelope.tied[0] == int(row["n_tied_files"])
    (best,) = (
        log for log in logs if log.path and log.path.name == local_name(table, row["argmax_file"])
    )
    assert analysis.certified_accuracy(best, float(radius)) == envelope.values[0]
    clean = analysis.certified_accuracy(best, 0.0)
    assert clean == pytest.approx(float(row["clean_accuracy_of_argmax"]), abs=1e-6)
    if envelope.tied[0] == 1:
        assert logs[envelope.winner[0]] is best


def test_rows_without_logs_are_counted(data_dir: Path) -> None:
    """63 rows, of which 27 are reproduced above; for 36 the logs are not here."""
    rows = expected(data_dir)
    assert {(table, radius) for table in (*LOGS, *WITHOUT_LOGS) for radius in RADII} == set(rows)
    assert len(rows) == 63
    here = {path.name for path in (data_dir / "certify_logs").rglob("*") if path.is_file()}
    missing = [
        key for key, row in rows.items() if local_name(key[0], row["argmax_file"]) not in here
    ]
    by_table = {table: sum(key[0] == table for key in missing) for table, _ in rows}
    assert by_table == dict.fromkeys(LOGS, 0) | dict.fromkeys(WITHOUT_LOGS, 9)


def test_one_of_fourteen_logs_stays_below_the_envelope_of_all(data_dir: Path) -> None:
    """The one 10,000-image SmoothAdv log here is among the files of a table without logs."""
    (path,) = (data_dir / "certify_logs").glob("smoothadv_*.tsv.xz")
    log = load_log(path, strict=True)
    for radius in RADII:
        most = float(expected(data_dir)["repo latex_new ours full", radius]["certified_accuracy"])
        assert analysis.certified_accuracy(log, float(radius)) <= most + 1e-6


@pytest.mark.parametrize(
    ("noise", "percents", "abstains"),
    [
        ("0.12", "81.4 58.6 0 0 0 0 0 0 0 0", 3.8),
        ("0.25", "74.8 60.0 42.8 26.6 0 0 0 0 0 0", 8.6),
        ("0.50", "65.2 54.6 41.4 32.0 23.4 15.2 9.4 5.2 0 0", 16.6),
        ("1.00", "47.2 39.2 34.0 27.8 21.6 17.4 14.0 11.8 10.0 7.6", 29.0),
    ],
)
def test_published_models_one_by_one(
    data_dir: Path, noise: str, percents: str, abstains: float
) -> None:
    """Oracle: the numbers of [Cohen19]'s CIFAR-10 models, recomputed with awk."""
    log = load_log(data_dir / f"certify_logs/original500/cohen/noise_{noise}.sigma_{noise}.tsv")
    shares = 100 * analysis.certified_accuracy(log, np.arange(10) / 4)
    np.testing.assert_allclose(shares, [float(p) for p in percents.split()], atol=1e-9)
    assert 100 * analysis.abstention_rate(log) == pytest.approx(abstains)


# log, sigma, alpha, and at least how many of its radii lie where the lattice is resolved
LATTICE = [
    ("original500/cohen/noise_0.12.sigma_0.12.tsv", 0.12, 0.001, 200),
    ("original500/cohen/noise_0.25.sigma_0.25.tsv", 0.25, 0.01, 110),
    ("original500/cohen/noise_0.50.sigma_0.50.tsv", 0.5, 0.01, 20),
    ("original500/cohen/noise_1.00.sigma_1.00.tsv", 1.0, 0.01, 1),
    ("cohen_cifar10_resnet110_sigma0.12.tsv.xz", 0.12, 0.001, 3900),
    ("cohen_cifar10_resnet110_sigma0.25.tsv.xz", 0.25, 0.001, 2200),
    ("cohen_cifar10_resnet110_sigma0.50.tsv.xz", 0.5, 0.001, 320),
    ("cohen_cifar10_resnet110_sigma1.00.tsv.xz", 1.0, 0.001, 30),
    ("smoothadv_DDN10_m8_eps64_sigma0.12.tsv.xz", 0.12, 0.001, 5500),
    ("original500/smoothadv/*eps_64__noise_0.12*", 0.12, 0.001, 350),
    ("original500/smoothadv/*8-multi*noise_0.25*", 0.25, 0.001, 290),
    ("original500/smoothadv/PGD_4steps*noise_0.50*", 0.5, 0.001, 270),
    ("original500/smoothadv/*noise_1.00*", 1.0, 0.001, 175),
]


@cache
def lattice(sigma: float, alpha: float, decimals: int | None) -> tuple[np.ndarray, float]:
    """Printed radii of n = 100,000, and above which of them neighbours print differently.

    Oracle: scipy.stats for the one-sided Clopper-Pearson bound and the normal quantile.
    """
    votes = np.arange(50_001, 100_001)
    radii = sigma * stats.norm.ppf(stats.beta.ppf(alpha, votes, 100_000 - votes + 1))
    radii = radii[radii > sigma / 100]
    quantum = 10.0 ** (np.floor(np.log10(radii)) - 2) if decimals is None else 10.0**-decimals
    coarse = np.diff(radii) < np.broadcast_to(quantum, radii.shape)[1:]
    resolved = radii[np.flatnonzero(coarse)[-1] + 2]
    printed = [f"{r:.3g}" if decimals is None else f"{r:.{decimals}f}" for r in radii]
    return np.array([float(text) for text in printed]), float(resolved)


@pytest.mark.parametrize(("name", "sigma", "alpha", "least"), LATTICE)
def test_published_radii_come_from_counts(
    data_dir: Path, name: str, sigma: float, alpha: float, least: int
) -> None:
    """Each radius, where the lattice is resolved, is that of a whole number of votes.

    [Cohen19]'s 500-image logs after sigma .12 were certified at alpha = .01, not at the .001
    documented. On the lattice of the other alpha many radii find no place.
    """
    (path,) = (data_dir / "certify_logs").glob(name)
    log = load_log(path, strict=True)
    decimals = 4 if "original500/smoothadv" in name else None
    shares = {}
    for level in (0.001, 0.01):
        radii, resolved = lattice(sigma, level, decimals)
        high = log.radius[log.radius > resolved]
        shares[level] = float(np.isin(high, radii).mean())
        if level == alpha:
            assert high.size >= least
    other = 0.01 if alpha == 0.001 else 0.001
    assert shares[alpha] == 1.0
    assert shares[other] < 0.9


# ---------------------------------------------------------------- definitions


@pytest.mark.parametrize("size", [1, 7, 33, 1023])
def test_certified_accuracy_is_its_definition(size: int) -> None:
    """Oracle: mean[correct and radius >= r], written out."""
    log = random_log(size, size)
    radii = np.concatenate([[0.0, 9.0], np.unique(log.radius), np.linspace(0, 2, 31).round(3)])
    direct = [np.mean(log.correct & (log.radius >= r)) for r in radii]
    np.testing.assert_array_equal(analysis.certified_accuracy(log, radii), direct)
    as_grid = analysis.certified_accuracy(log, radii[:30].reshape(5, 6))
    np.testing.assert_array_equal(as_grid, np.reshape(direct[:30], (5, 6)))
    single = analysis.certified_accuracy(log, float(radii[2]))
    assert isinstance(single, float)
    assert single == direct[2]
    assert analysis.certified_accuracy(log, []).shape == (0,)


def test_comparison_is_inclusive_and_takes_rounded_radii_as_they_are() -> None:
    log = make([0.25, 0.3, 0.0, 0.249], abstain=[False, False, True, False])
    assert analysis.certified_accuracy(log, 0.25) == 0.5
    assert analysis.certified_accuracy(log, np.nextafter(0.25, 1) + 1e-9) == 0.25
    assert analysis.certified_accuracy(log, 0.0) == 0.75  # the abstention is wrong at 0 too
    assert analysis.certified_accuracy(log, 0.1 * 3) == 0.25  # 0.30000000000000004


def test_wrong_radii_and_empty_logs_are_refused() -> None:
    log, empty = make([0.5]), make([])
    for radius in (-0.1, np.nan, np.inf, [0.5, -1.0]):
        with pytest.raises(ValueError, match="radius expected finite numbers >= 0"):
            analysis.certified_accuracy(log, radius)  # type: ignore[arg-type]
    calls: list[Any] = [
        lambda: analysis.certified_accuracy(empty, 0.5),
        lambda: analysis.certified_accuracy_lower_bound(empty, 0.5, 0.001),
        lambda: analysis.average_certified_radius(empty),
        lambda: analysis.abstention_rate(empty),
        lambda: analysis.upper_envelope([empty], [0.5]),
        lambda: analysis.p_lower_distribution(empty, 0.5),
        lambda: analysis.summary(empty),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="log expected at least one row, got none"):
            call()
    with pytest.raises(ValueError, match="logs expected at least one log"):
        analysis.upper_envelope([], [0.5])


def test_average_certified_radius_is_the_area_under_the_curve() -> None:
    log = random_log(1023, 5)
    corners = np.unique(np.append(log.radius, 0.0))
    heights = analysis.certified_accuracy(log, corners[1:])  # constant between corners
    area = float(np.sum(np.diff(corners) * heights))
    assert analysis.average_certified_radius(log) == pytest.approx(area, rel=1e-12)
    direct = float(np.mean(log.radius * log.correct))
    assert analysis.average_certified_radius(log) == pytest.approx(direct, rel=1e-12)


def test_abstention_rate() -> None:
    log = make([0.5] * 8, abstain=[1, 1, 1, 0, 0, 0, 0, 0])
    assert analysis.abstention_rate(log) == 0.375


# ---------------------------------------------------------------- the lower bound


@pytest.mark.parametrize("size", [1, 9, 500, 10000])
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.3])
@pytest.mark.parametrize("rho", [0.001, 0.05])
def test_binomial_bound_subtracts_the_binomial_quantile(
    size: int, alpha: float, rho: float
) -> None:
    """Oracle: scipy.stats.binom. Valid (upper tail at most rho), and one less would not be."""
    log = make(np.ones(size))
    false = round(size * (1 - analysis.certified_accuracy_lower_bound(log, 0.5, alpha, rho)))
    assert false == stats.binom.ppf(1 - rho, size, alpha)
    assert stats.binom.sf(false, size, alpha) <= rho
    assert false == 0 or stats.binom.sf(false - 1, size, alpha) > rho


def test_published_bound() -> None:
    """Oracle: the formula by hand, .00100 + .0037151 + .0046052 = .0093202 at m = 500."""
    log = make(np.ones(500))
    bound = analysis.certified_accuracy_lower_bound(log, 0.5, 0.001, method="published")
    assert bound == pytest.approx(1 - 0.0093202, abs=1e-7)
    # Why it is not the default: at m = 10000 it deducts 20.6 images, and more than 20 are false
    # with a probability above rho = .001.
    log = make(np.ones(10000))
    bound = analysis.certified_accuracy_lower_bound(log, 0.5, 0.001, method="published")
    assert stats.binom.sf(np.floor(10000 * (1 - bound)), 10000, 0.001) > 0.0015


def test_lower_bound_shapes_limits_and_errors() -> None:
    log = random_log(33, 1)
    radii = np.array([[0.0, 0.1], [0.5, 9.0]])
    bound = analysis.certified_accuracy_lower_bound(log, radii, 0.01)
    share = analysis.certified_accuracy(log, radii)
    np.testing.assert_allclose(bound, np.maximum(share - 3 / 33, 0), atol=1e-15)  # q = 3
    assert stats.binom.ppf(0.999, 33, 0.01) == 3
    for name, arguments in (("alpha", (0.0,)), ("alpha", (1.0,)), ("rho", (0.1, np.nan))):
        with pytest.raises(ValueError, match=f"{name} expected a probability strictly between"):
            analysis.certified_accuracy_lower_bound(log, 0.5, *arguments)
    with pytest.raises(ValueError, match="method expected 'binomial' or 'published', got 'x'"):
        analysis.certified_accuracy_lower_bound(log, 0.5, 0.1, method="x")  # type: ignore[call-overload]


def test_lower_bound_covers_at_all_radii_at_once() -> None:
    """Simulated certificates that fail as often as they may (alpha = .2), against the truth.

    4000 runs of 60 images; the curve as a whole must be wrong in at most rho = .05 of them. A
    failure probability of exactly .05 would give 264 or more wrong runs with probability 1e-6.
    """
    rng = np.random.default_rng(0)
    truth = make(rng.exponential(0.5, 60))
    radii = np.linspace(0, 3, 61)
    true_curve = analysis.certified_accuracy(truth, radii)
    assert stats.binom.sf(269, 4000, 0.05) < 1e-6
    wrong = 0
    for _ in range(4000):
        too_large = rng.random(60) < 0.2
        log = make(truth.radius + np.where(too_large, rng.exponential(1.0, 60), 0.0))
        bound = analysis.certified_accuracy_lower_bound(log, radii, 0.2, 0.05)
        wrong += bool(np.any(bound > true_curve + 1e-12))
    assert wrong <= 269


# ---------------------------------------------------------------- several logs


def test_envelope_names_winners_ties_and_nobody() -> None:
    logs = [make([0.1, 0.1, 0.9, 0.1]), make([0.5, 0.5, 0.5, 0.1]), make([0.5, 0.5, 0.5, 0.1])]
    envelope = analysis.upper_envelope(logs, [0.0, 0.5, 0.9, 1.0])
    np.testing.assert_array_equal(envelope.values, [1.0, 0.75, 0.25, 0.0])
    np.testing.assert_array_equal(envelope.winner, [0, 1, 0, -1])
    np.testing.assert_array_equal(envelope.tied, [3, 2, 1, 3])
    assert analysis.upper_envelope(logs, []).values.shape == (0,)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"idx": np.arange(0, 14, 2)}, r"images they cover .*idx 0 to 12, every 2nd.*: b"),
        ({"idx": [0, 1, 2, 3, 4, 5, 9]}, r"images they cover .*irregular"),
        ({"n": [50] * 7}, r"samples per image .*n = 100: a; n = 50: b"),
        ({"n": [50, *[60] * 6]}, r"samples per image .*n = 50 to 60: b"),
        ({"metadata": {"alpha": 0.01}}, r"alpha .*alpha = 0\.001: a; alpha = 0\.01: b"),
        ({"metadata": {"data": "x", "data_sha256": "f" * 64}}, r"data .*y 00000000: a; x ffffffff"),
        ({"label": [3] * 6 + [4], "correct": [1] * 6 + [0]}, "image 6 has label 3 in one and 4"),
    ],
)
def test_logs_that_do_not_compare_are_warned_about(more: dict[str, Any], message: str) -> None:
    about = {"alpha": 0.001, "data": "y", "data_sha256": "0" * 64}
    same: dict[str, Any] = {"n": [100] * 7, "metadata": about}
    first = make(np.ones(7), **same)
    other = make(np.ones(7), **same | more)
    with pytest.warns(AnalysisWarning, match=message) as caught:
        said = analysis.check_comparable([first, other], ["a", "b"])
    assert [str(w.message) for w in caught] == said
    assert len(said) == 1
    with pytest.warns(AnalysisWarning):
        analysis.upper_envelope([first, other], [0.5])


def test_logs_that_compare_or_say_nothing_are_not_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        about = make(np.ones(7), n=[100] * 7, metadata={"alpha": 0.001})
        bare = make(np.ones(7) / 2)
        assert analysis.check_comparable([about, bare, about]) == []
        assert analysis.check_comparable([bare]) == []


def test_different_images_of_the_same_description_are_told_apart() -> None:
    logs = [make(np.ones(4), idx=idx) for idx in ([0, 1, 5, 9], [0, 2, 5, 9])]
    with pytest.warns(AnalysisWarning, match=r"set 1: log; .*, set 2: log"):
        analysis.check_comparable(logs)


@pytest.mark.parametrize(
    ("idx", "text"),
    [
        ([], "no images"),
        ([7], "1 image (idx 7)"),
        ([2, 0, 1], "3 images (idx 0 to 2, all)"),
        (range(0, 10000, 20), "500 images (idx 0 to 9980, every 20th)"),
        (range(0, 33, 11), "3 images (idx 0 to 22, every 11th)"),
        (range(5, 200, 101), "2 images (idx 5 to 106, every 101st)"),
        ([0, 1, 5], "3 images (idx 0 to 5, irregular)"),
    ],
)
def test_describe_subset(idx: Any, text: str) -> None:
    assert analysis.describe_subset(make(np.ones(len(idx)), idx=np.array(idx, int))) == text


# ---------------------------------------------------------------- p_lower


def test_p_lower_is_reconstructed_to_the_precision_of_the_radii() -> None:
    """Oracle: p_lower of scipy.stats, sent through radius and rounding to 3 digits."""
    votes = np.linspace(50_600, 100_000, 301).astype(int)
    p_lower = stats.beta.ppf(0.001, votes, 100_001 - votes)
    for digits, tolerance in ((17, 1e-14), (3, 1.3e-3)):
        radius = [float(f"{0.25 * z:.{digits}g}") for z in stats.norm.ppf(p_lower)]
        values = analysis.p_lower_distribution(make(radius), 0.25)
        assert not values.recorded
        np.testing.assert_allclose(values.values, p_lower, atol=tolerance)
    recorded = analysis.p_lower_distribution(make(np.ones(301), p_lower=p_lower))
    assert recorded.recorded
    np.testing.assert_array_equal(recorded.values, p_lower)


def test_p_lower_uses_the_recorded_sigma_and_knows_what_it_does_not_know() -> None:
    log = make([0.5, 0, 1.0], abstain=[0, 1, 0], metadata={"sigma": 0.5})
    values = analysis.p_lower_distribution(log).values
    np.testing.assert_allclose(values, [stats.norm.cdf(1), np.nan, stats.norm.cdf(2)])
    with pytest.raises(ValueError, match="sigma expected a number, as log records neither"):
        analysis.p_lower_distribution(make([0.5]))
    with pytest.raises(ValueError, match="sigma expected a finite number > 0, got 0"):
        analysis.p_lower_distribution(make([0.5]), 0.0)
    with pytest.raises(ValueError, match=r"largest radius 0\.957 would be 8\.0 sigma"):
        analysis.p_lower_distribution(make([0.957]), 0.12)


@pytest.mark.parametrize("size", [1, 8, 101])
def test_quantiles(size: int) -> None:
    """Oracle: numpy's inverted_cdf; unknown values count as the smallest and come back as NaN."""
    rng = np.random.default_rng(size)
    values = rng.uniform(0.5, 1, size)
    shares = np.array([0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1])
    known = analysis.PLowerDistribution(values, recorded=True)
    truth = np.quantile(values, shares, method="inverted_cdf")
    np.testing.assert_array_equal(known.quantile(shares), truth)
    values[: size // 2] = np.nan
    found = analysis.PLowerDistribution(values, recorded=False).quantile(shares)
    truth = np.quantile(np.nan_to_num(values, nan=-1), shares, method="inverted_cdf")
    np.testing.assert_array_equal(found, np.where(truth < 0, np.nan, truth))
    with pytest.raises(ValueError, match="q expected numbers from 0 to 1"):
        known.quantile(1.5)


def test_summary_says_what_was_recorded_and_what_assumed() -> None:
    bare = analysis.summary(make([0.5, 0.2], time=[1.0, 3.0]), [0.0, 0.5])
    assert (bare.alpha, bare.alpha_assumed, bare.n, bare.seed) == (0.001, True, None, None)
    assert (bare.p_lower, bare.sigma, bare.seconds_per_image) == (None, None, 2.0)
    assert analysis.summary(make([0.5]), alpha=0.05).alpha == 0.05
    about = {"alpha": 0.01, "sigma": 0.5, "seed": 2**64 - 1, "n": 1000}
    full = analysis.summary(make([0.5, 0.2], metadata=about), [0.0, 0.5], alpha=0.05, sigma=9.0)
    assert (full.alpha, full.alpha_assumed, full.n, full.seed) == (0.01, False, "1000", 2**64 - 1)
    assert full.sigma == 0.5
    assert full.p_lower is not None
    np.testing.assert_allclose(full.p_lower.values, stats.norm.cdf([1, 0.4]))
    np.testing.assert_array_equal(full.certified_accuracy, [1.0, 0.5])
    assert (full.accuracy, full.abstention_rate, full.average_certified_radius) == (1.0, 0.0, 0.35)
    assert full.subset == "2 images (idx 0 to 1, all)"


# ---------------------------------------------------------------- plots


def test_curves_are_exact_steps() -> None:
    """Oracle: certified_accuracy, read off the drawn steps at and beside every corner."""
    pytest.importorskip("matplotlib")
    logs = [random_log(33, 2), random_log(101, 3)]
    figure = plotting.plot_certified_accuracy(logs, labels=["one", "two"], envelope=True)
    (axes,) = figure.axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert set(drawn) == {"one", "two", "upper envelope"}
    radii = np.unique(np.concatenate([np.append(log.radius, 0.0) for log in logs]))
    at = np.concatenate([radii, radii[1:] - 1e-6])
    named = zip(("one", "two"), logs, strict=True)
    truth = {name: analysis.certified_accuracy(log, at) for name, log in named}
    truth["upper envelope"] = np.maximum(*truth.values())
    for name, line in drawn.items():
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert line.get_drawstyle() == "steps-pre"
        inside = at <= x[-1]
        # "steps-pre" holds y[k] on (x[k-1], x[k]]
        np.testing.assert_allclose(
            y[np.searchsorted(x, at[inside], side="left")], 100 * truth[name][inside], atol=1e-9
        )
        assert y[-1] == 0
        np.testing.assert_array_equal(truth[name][~inside], 0)


def test_names_stand_by_the_curves_or_in_a_legend() -> None:
    pytest.importorskip("matplotlib")
    logs = [make(np.linspace(0, sigma * 3, 101)[1:]) for sigma in (0.12, 0.25, 0.5, 1.0)]
    figure = plotting.plot_certified_accuracy(logs, labels=list("abcd"))
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == list("abcd")
    assert axes.get_legend() is None
    colours = [line.get_color() for line in axes.get_lines()]
    assert [text.get_color() for text in axes.texts] == colours
    assert len(set(colours)) == 4
    (axes,) = plotting.plot_certified_accuracy(logs * 2, labels=list("abcdefgh")).axes
    assert not axes.texts
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list("abcdefgh")
    styles = {(line.get_color(), str(line.get_linestyle())) for line in axes.get_lines()}
    assert len(styles) == 8
    long = [f"{'x' * 60}{k}" for k in range(4)]
    figure = plotting.plot_certified_accuracy(logs, labels=long)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == long
    # identical curves leave no room for two names
    (axes,) = plotting.plot_certified_accuracy([logs[0], logs[0]], labels=["a", "b"]).axes
    assert axes.get_legend() is not None


def test_histogram_counts_every_image_once() -> None:
    pytest.importorskip("matplotlib")
    log = make([0.1, 0.9, 0.0, 0.4, 0.95], abstain=[0, 0, 1, 0, 0], metadata={"sigma": 0.25})
    exact = make([0.5, 0.0, 0.0, 0.0], abstain=[0, 1, 0, 1], p_lower=[1.0, 0.25, 0.5, 0.4])
    figure = plotting.plot_p_lower([log, exact], labels=["a", "b"], bins=7)
    for axes, below in zip(figure.axes, (20.0, 50.0), strict=True):
        heights = [bar.get_height() for bar in axes.patches]
        assert len(heights) == 8
        assert heights[-1] == below
        assert sum(heights) == pytest.approx(100)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    with pytest.raises(ValueError, match="sigma expected a number"):
        plotting.plot_p_lower([make([0.5])])
    with pytest.raises(ValueError, match="bins expected an integer >= 1, got 0"):
        plotting.plot_p_lower([log], bins=0)
    with pytest.raises(ValueError, match="sigmas expected 1 numbers, one a log, got 2"):
        plotting.plot_p_lower([log], sigmas=[1, 2])


@pytest.mark.parametrize("plot", [plotting.plot_certified_accuracy, plotting.plot_p_lower])
def test_plots_refuse_what_does_not_fit(plot: Any) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="logs expected at least one log, got none"):
        plot([])
    with pytest.raises(ValueError, match="labels expected 1 texts, one a log, got 2"):
        plot([make([0.5])], labels=["a", "b"])
    with pytest.raises(ValueError, match="log expected at least one row"):
        plot([make([])])


def test_degenerate_logs_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for log in (make([0.5], correct=[0]), make([0.0], abstain=[1]), make([0.5])):
        plotting.save_figure(plotting.plot_certified_accuracy([log]), tmp_path / "a.png")
        plotting.save_figure(plotting.plot_p_lower([log], sigmas=[0.5]), tmp_path / "b.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "b.svg").read_bytes()


def test_pyplot_is_left_alone_and_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """Neither pyplot nor a backend choice; importing the analysis needs no optional package."""
    pytest.importorskip("matplotlib")
    code = """
import sys
from tamis import analysis
heavy = {"matplotlib", "rich", "torch", "onnxruntime"} & set(sys.modules)
assert not heavy, heavy
from tamis import plotting
log = analysis.CertificationLog(idx=[0], label=[1], predict=[1], radius=[.5], correct=[1])
plotting.save_figure(plotting.plot_certified_accuracy([log]), sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment["MPLBACKEND"] = "tkagg"  # would need a display if it were loaded
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
