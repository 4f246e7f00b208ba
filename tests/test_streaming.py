"""`RobustMean.fit_iter` and `partial_fit`: rows in chunks, read again and again or seen once.

One file, past the usual 400 lines: both share the small reservoir and the filter's stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tamis
from tamis import RobustMean
from tamis.estimators import _streaming
from tamis.estimators._streaming import Chunks, PartialMean, Reservoir

OPTIONS: dict[str, Any] = {"contamination": 0.1, "seed": 0}


def contaminated(n: int = 12_001, d: int = 9, share: float = 0.1, far: float = 3.0) -> Any:
    """Standard normal rows; a random ``share`` of them is moved by ``far`` in every coordinate."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((n, d))
    bad = rng.random(n) < share
    X[bad] += far
    return X, bad


def cut(X: Any, *sizes: int) -> list[Any]:
    """X in chunks of these sizes, over and over."""
    chunks, at, k = [], 0, 0
    while at < len(X):
        chunks.append(X[at : at + sizes[k % len(sizes)]])
        at, k = at + sizes[k % len(sizes)], k + 1
    return chunks


@pytest.fixture
def small_reservoir(monkeypatch: pytest.MonkeyPatch) -> int:
    """2000 rows instead of 32,768, so that little data is a long stream."""
    monkeypatch.setattr(_streaming, "_RESERVOIR_ROWS", 2000)
    return 2000


class Recorder:
    """In the place of tamis.ops.FilterStream: keeps rows of norm below 6, and what it was told."""

    made: list[Recorder]
    settles_after = 2

    def __init__(self, **options: Any) -> None:
        self.options, self.fitted, self.absorbed = options, [], [[]]
        self.limited, self.seen, self.kept = False, 0, 0
        self.mean: Any = None
        type(self).made.append(self)

    def fit(self, rows: Any) -> None:
        self.fitted.append(rows.copy())
        keep = self.keep(rows)
        self.mean, self.kept, self.seen = rows[keep].mean(axis=0), int(keep.sum()), len(rows)

    def keep(self, chunk: Any) -> Any:
        return np.linalg.norm(chunk, axis=1) < 6.0

    def absorb(self, chunk: Any) -> None:
        self.absorbed[-1].append(chunk.copy())

    def finish_pass(self) -> bool:
        rows = np.concatenate(self.absorbed[-1])
        keep = self.keep(rows)
        self.mean, self.kept, self.seen = rows[keep].mean(axis=0), int(keep.sum()), len(rows)
        self.absorbed.append([])
        return len(self.absorbed) > self.settles_after


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, small_reservoir: int) -> type[Recorder]:
    monkeypatch.setattr(Recorder, "made", [], raising=False)
    monkeypatch.setattr(tamis.ops, "FilterStream", Recorder, raising=False)
    return Recorder


# --- the reservoir --------------------------------------------------------------------------------


def hashes(seed: int, count: int) -> list[float]:
    """Twin of the generator in Python integers."""
    mask, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15
    values = []
    for index in range(count):
        z = (seed * golden + 41 * 0xD1B54A32D192ED03 + (index + 1) * golden) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        values.append(((z ^ (z >> 31)) >> 11) * 2.0**-53)
    return values


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("capacity", [1, 33, 500, 3001, 9000])
def test_reservoir_holds_the_rows_of_smallest_hash(seed: int, capacity: int) -> None:
    """Oracle: the definition, by sorting; for chunks of any size the same rows in their order."""
    n = 3001
    X = np.arange(n, dtype=np.float64)[:, None]
    expected = np.sort(np.argsort(hashes(seed, n))[:capacity])
    for sizes in ((n,), (1, 7, 900), (64,), (0, 1023)):
        reservoir = Reservoir(capacity, seed)
        for chunk in cut(X, *sizes):
            reservoir.add(chunk)
        np.testing.assert_array_equal(reservoir.rows()[:, 0], expected)
        assert reservoir.seen == n


def test_reservoir_is_uniform() -> None:
    """Oracle: over 400 seeds a row of 100 is drawn into 20 places 80 times, sd 8; 6 sd."""
    X = np.arange(100)[:, None]
    drawn = np.zeros(100)
    for seed in range(400):
        reservoir = Reservoir(20, seed)
        reservoir.add(X)
        drawn[reservoir.rows()[:, 0]] += 1
    assert np.abs(drawn - 80).max() < 48


def test_reservoir_copies_its_rows_and_keeps_memory_bounded() -> None:
    reservoir = Reservoir(100, 0)
    chunk = np.zeros((50, 3))
    for k in range(1000):
        chunk[:] = k
        reservoir.add(chunk)
        assert sum(len(part) for part in reservoir._parts) <= 100 + 1024 + 50
    assert len(np.unique(reservoir.rows()[:, 0])) > 50  # not all overwritten by the last chunk


@pytest.mark.parametrize(
    ("columns", "rows"), [(1, 32768), (100, 32768), (2000, 40_000), (65536, 4096)]
)
def test_capacity(columns: int, rows: int) -> None:
    """20 rows a column, but at most 2^28 numbers: 1 GiB of float32."""
    assert _streaming.capacity_for(columns) == rows


# --- sources --------------------------------------------------------------------------------------


class Rows:
    """A map-style data set: length and items, no iterator, no IndexError at the end."""

    def __init__(self, X: Any, pairs: bool) -> None:
        self.X, self.pairs = X, pairs

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: int) -> Any:
        return (self.X[index], 0) if self.pairs else self.X[index]


def sources(X: Any) -> dict[str, Any]:
    return {
        "list": cut(X, 100, 1, 63),
        "tuple": tuple(cut(X, 500)),
        "function": lambda: iter(cut(X, 77)),
        "function that returns an array": lambda: X,
        "array": X,
        "single rows": list(X),
        "rows and chunks": [X[0], X[1], X[2:900], X[900], X[901:]],
        "pairs": [(chunk, np.zeros(len(chunk))) for chunk in cut(X, 99)],
        "lists of two": [[chunk, np.zeros(len(chunk))] for chunk in cut(X, 99)],
        "lists of rows": [list(chunk) for chunk in cut(X, 99)],
        "lists of numbers": [chunk.tolist() for chunk in cut(X, 300)],
        "data set": Rows(X, pairs=False),
        "data set of pairs": Rows(X, pairs=True),
    }


@pytest.mark.parametrize("kind", sources(np.zeros((1000, 3))))
def test_every_kind_of_source_gives_the_rows(kind: str) -> None:
    X = contaminated(1000, 3)[0]
    chunks = Chunks(sources(X)[kind])
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(chunks.read(check=True))), X)


def test_torch_sources() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    X = contaminated(1000, 3)[0].astype(np.float32)
    rows = torch.from_numpy(X)
    data = TensorDataset(rows, torch.zeros(1000))
    for source in (rows, cut(rows, 64), data, DataLoader(data, batch_size=33)):
        chunks = Chunks(source)
        for _ in range(2):
            np.testing.assert_array_equal(np.concatenate(list(chunks.read())), X)
        found = RobustMean().fit_iter(source)
        assert isinstance(found.location_, torch.Tensor)
        assert found.location_.dtype == torch.float32


def test_chunks_take_the_dtype_of_the_first() -> None:
    X = np.rint(contaminated(30, 3)[0])
    mixed = [X[:10].astype(np.float32), X[10:20], X[20:].astype(np.int64)]
    assert {chunk.dtype for chunk in Chunks(mixed).read()} == {np.dtype(np.float32)}
    assert {chunk.dtype for chunk in Chunks(mixed[::-1]).read()} == {np.dtype(np.float64)}


def one_shot() -> Iterator[Any]:
    yield np.zeros((5, 2))


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        (one_shot(), TypeError, "read again, got a generator.*pass a function"),
        (iter([np.zeros((5, 2))]), TypeError, "read again, got a list_iterator"),
        (3, TypeError, "source: expected a path, a function .* got int"),
        (lambda: 3, TypeError, "a function that returns an iterable, got int"),
        ([], ValueError, "source: expected at least one chunk of rows, got none"),
        ([np.zeros((5, 2)), np.zeros((5, 3))], ValueError, "2 columns .* got 3 in chunk 1"),
        ([np.zeros((5, 2)), np.zeros((5, 2, 2))], ValueError, r"chunk 1: expected a 2D array"),
        (np.zeros(5), ValueError, "source: expected a 2D array"),
        ([np.array([["a"]])], TypeError, "source: chunk 0: expected numbers"),
    ],
)
def test_what_is_no_source(source: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        RobustMean().fit_iter(source)


def test_a_bad_row_is_named_by_its_number_in_the_whole() -> None:
    X = contaminated(1000, 3)[0]
    X[[731, 733], [2, 0]] = np.nan
    with pytest.raises(ValueError, match="source: expected finite values, got NaN in row 731, col"):
        RobustMean().fit_iter(cut(X, 100))


def test_a_source_that_changes_is_noticed(recorder: type[Recorder]) -> None:
    X = contaminated(3000)[0]
    once = iter(cut(X, 1000))
    with pytest.raises(ValueError, match="the same rows in every pass, got 3000 and then 0"):
        RobustMean().fit_iter(lambda: once)
    shorter = iter([3000, 2999])
    with pytest.raises(ValueError, match="got 3000 and then 2999"):
        RobustMean().fit_iter(lambda: [X[: next(shorter)]])
    with pytest.raises(ValueError, match="max_passes: expected an integer >= 2"):
        RobustMean().fit_iter([X], max_passes=1)


# --- fit_iter -------------------------------------------------------------------------------------


def test_few_rows_are_filtered_in_memory() -> None:
    """Oracle: fit, to the bit, with every attribute."""
    X = contaminated(3000)[0].astype(np.float32)
    expected = RobustMean(0.2, random_state=5).fit(X)
    found = RobustMean(0.2, random_state=5).fit_iter(cut(X, 700))
    for name in ("location_", "weights_", "support_", "scores_", "eigenvalues_"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.stop_reason_ == expected.stop_reason_
    assert found.location_.dtype == np.float32


def test_passes(recorder: type[Recorder], small_reservoir: int) -> None:
    """Oracle: what a recorder in the filter's place was told, and its own answers."""
    X = contaminated()[0]
    chunks = cut(X, 1000, 13)
    reads = []

    def read() -> list[Any]:
        reads.append(len(reads))
        return chunks

    found = RobustMean(0.2, rule="bounded_covariance", random_state=3, n_jobs=1).fit_iter(read)
    (stream,) = recorder.made
    assert stream.options == {
        "contamination": 0.2, "rule": "bounded_covariance", "assume": "none", "prune": True,
        "max_removed": 2.5, "seed": 3, "num_threads": 1,
    }  # fmt: skip
    (sample,) = stream.fitted
    reservoir = Reservoir(small_reservoir, 3)
    reservoir.add(X)
    np.testing.assert_array_equal(sample, reservoir.rows())
    for absorbed in stream.absorbed[:2]:
        np.testing.assert_array_equal(np.concatenate(absorbed), X)
    assert len(reads) == found.n_passes_ == 3
    assert (found.n_iter_, found.stop_reason_) == (2, "settled")
    keep = stream.keep(X)
    np.testing.assert_allclose(found.location_, X[keep].mean(axis=0), rtol=1e-12)
    assert found.contamination_ == pytest.approx(1 - keep.mean())
    assert not hasattr(found, "weights_")
    assert found.n_features_in_ == 9


def test_why_it_ends(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    X = contaminated(5000)[0]
    monkeypatch.setattr(recorder, "settles_after", 99)
    found = RobustMean().fit_iter(cut(X, 999), max_passes=4)
    assert (found.n_passes_, found.stop_reason_) == (4, "max_passes")
    finish = recorder.finish_pass

    def limited(self: Any) -> bool:
        self.limited = True
        return finish(self)

    monkeypatch.setattr(recorder, "finish_pass", limited)
    found = RobustMean().fit_iter(cut(X, 999))
    assert (found.n_passes_, found.stop_reason_) == (2, "removal_limit")


@pytest.mark.parametrize("rule", ["gaussian_tail", "bounded_covariance"])
@pytest.mark.parametrize("contamination", [0.1, "auto"])
@pytest.mark.usefixtures("small_reservoir")
def test_a_stream_is_as_good_as_memory(rule: str, contamination: Any) -> None:
    """Oracle: the error of fit on the same rows, and 10% of it, or of the sampling error, more.

    The mean of 10,800 good rows is off by sqrt(9 / 10800) = .029.
    """
    X, bad = contaminated()
    in_memory = RobustMean(contamination, rule=rule).fit(X)
    streamed = RobustMean(contamination, rule=rule).fit_iter(cut(X, 997))
    assert streamed.stop_reason_ == "settled"
    assert 3 <= streamed.n_passes_ <= 12
    error = np.linalg.norm(in_memory.location_)
    assert np.linalg.norm(streamed.location_) < 1.1 * max(error, 0.029)
    assert streamed.contamination_ == pytest.approx(bad.mean(), abs=0.01)


@pytest.mark.usefixtures("small_reservoir")
def test_where_chunks_are_cut_does_not_matter() -> None:
    """Up to the rounding of sums: 1e-12 of rows of order 10."""
    X = contaminated()[0]
    results = [
        RobustMean(random_state=1).fit_iter(cut(X, *sizes)).location_
        for sizes in ((12_001,), (1000,), (1, 4095))
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-12)


@pytest.mark.usefixtures("small_reservoir")
def test_clean_rows_stay() -> None:
    """Oracle: the sample mean; 2% of its error may go."""
    X = contaminated(share=0.0)[0]
    found = RobustMean().fit_iter(cut(X, 1000))
    mean = X.mean(axis=0)
    assert np.linalg.norm(found.location_) < 1.02 * np.linalg.norm(mean)
    assert found.contamination_ < 0.002


# --- .npy files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("small_reservoir")
def test_a_file_is_mapped_and_read_in_place(
    tmp_path: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: fit on the array, to the bit; and what arrives at the operation is the map."""
    X = contaminated()[0].astype(dtype)
    np.save(tmp_path / "X.npy", X)
    expected = RobustMean().fit(X)
    seen: list[Any] = []
    run: Callable[..., Any] = tamis.ops.iterative_filter
    monkeypatch.setattr(tamis.ops, "iterative_filter", lambda X, **o: seen.append(X) or run(X, **o))
    for path in (tmp_path / "X.npy", str(tmp_path / "X.npy")):
        found = RobustMean().fit_iter(path)
        np.testing.assert_array_equal(found.location_, expected.location_)
        np.testing.assert_array_equal(found.weights_, expected.weights_)
    base = seen[-1]
    while not isinstance(base, np.memmap):
        base = base.base
    assert base.filename == tmp_path / "X.npy"
    assert not base.flags.writeable


@pytest.mark.usefixtures("small_reservoir")
def test_files_that_cannot_be_read_in_place_are_streamed(tmp_path: Path) -> None:
    X = np.rint(100 * contaminated()[0])
    arrays = (X.astype(np.int16), X.astype(">f8"), np.asfortranarray(X), X.astype(np.float16))
    expected = RobustMean().fit_iter([X]).location_
    for array in arrays:
        np.save(tmp_path / "X.npy", array)
        found = RobustMean().fit_iter(tmp_path / "X.npy")
        assert not hasattr(found, "weights_")
        assert found.location_.dtype == (np.float32 if array.dtype == np.float16 else np.float64)
        np.testing.assert_allclose(found.location_, expected, rtol=1e-3, atol=0.2)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "X.npy"
    with pytest.raises(FileNotFoundError):
        RobustMean().fit_iter(path)
    np.save(path, np.zeros(5))
    with pytest.raises(ValueError, match=r"X.npy: expected an array \(rows, columns\), got shape"):
        RobustMean().fit_iter(path)
    np.save(path, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match="holds Python objects, which are not unpickled"):
        RobustMean().fit_iter(path)
    np.save(path, np.zeros((9, 9)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        RobustMean().fit_iter(path)


# --- partial_fit ----------------------------------------------------------------------------------


def test_partial_fit_of_few_rows_is_fit() -> None:
    """Oracle: fit on all rows so far, after every chunk."""
    X = contaminated(3000)[0].astype(np.float32)
    mean = RobustMean(0.2, random_state=5)
    for end in (1, 8, 1000, 3000):
        start = mean._partial._reservoir.seen if hasattr(mean, "_partial") else 0
        assert mean.partial_fit(X[start:end]) is mean
        expected = RobustMean(0.2, random_state=5).fit(X[:end])
        np.testing.assert_array_equal(mean.location_, expected.location_)
        assert mean.contamination_ == expected.contamination_
        assert mean.location_.dtype == np.float32
    assert mean.n_features_in_ == 9


def test_partial_fit_sieves_each_row_once(recorder: type[Recorder]) -> None:
    """Oracle: a recorder in the filter's place, which keeps rows of norm below 6.

    It is fitted when 2000 rows were seen, and each time that number has doubled; then the
    estimate is the mean of the rows that it keeps, whatever the chunks are.
    """
    X = contaminated(9000)[0]
    keep = np.linalg.norm(X, axis=1) < 6.0
    for sizes in ((9000,), (1000,), (1, 2047)):
        recorder.made.clear()
        mean = RobustMean()
        for chunk in cut(X, *sizes):
            mean.partial_fit(chunk)
        np.testing.assert_allclose(mean.location_, X[keep].mean(axis=0), rtol=1e-10, atol=1e-12)
        assert mean.contamination_ == pytest.approx(1 - keep.mean())
        assert len(recorder.made) == 3
        for stream, seen in zip(recorder.made, (2000, 4000, 8000), strict=True):
            reservoir = Reservoir(2000, 0)
            reservoir.add(X[:seen])
            np.testing.assert_array_equal(stream.fitted[0], reservoir.rows())


@pytest.mark.usefixtures("small_reservoir")
def test_a_stream_seen_once_is_as_good_as_memory() -> None:
    """Oracle: the error of fit, and 10% of the sampling error (.029) more."""
    X = contaminated()[0]
    mean = RobustMean()
    for chunk in cut(X, 997):
        mean.partial_fit(chunk)
    in_memory = RobustMean().fit(X).location_
    assert np.linalg.norm(mean.location_) < 1.1 * max(np.linalg.norm(in_memory), 0.029)


def test_partial_fit_of_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    X = torch.from_numpy(contaminated(3000)[0])
    mean = RobustMean().partial_fit(X[:1000]).partial_fit(X[1000:].float())
    assert isinstance(mean.location_, torch.Tensor)
    assert mean.location_.dtype == torch.float64


def test_partial_fit_refuses_what_does_not_fit() -> None:
    X = contaminated(100, 3)[0]
    mean = RobustMean().partial_fit(X)
    before = mean.location_
    with pytest.raises(ValueError, match="X has 2 features, but RobustMean is expecting 3"):
        mean.partial_fit(X[:, :2])
    bad = X.copy()
    bad[7, 1] = np.inf
    with pytest.raises(ValueError, match="got inf in row 7, column 1"):
        mean.partial_fit(bad)
    np.testing.assert_array_equal(mean.location_, before)  # nothing of it was taken
    for call in (RobustMean(0.7).partial_fit, RobustMean(0.7).fit_iter):
        with pytest.raises(ValueError, match="contamination: expected"):
            call(X)  # before a row is taken


def test_fit_and_partial_fit_do_not_mix() -> None:
    X = contaminated(1000, 3)[0]
    mean = RobustMean().fit(X)
    mean.partial_fit(X[:500])
    assert not hasattr(mean, "weights_")
    np.testing.assert_array_equal(mean.location_, RobustMean().fit(X[:500]).location_)
    mean.fit(X)
    np.testing.assert_array_equal(mean.location_, RobustMean().fit(X).location_)
    mean.partial_fit(X[500:])  # a new stream
    np.testing.assert_array_equal(mean.location_, RobustMean().fit(X[500:]).location_)


def test_nothing_yet() -> None:
    with pytest.raises(ValueError, match="expected rows first"):
        PartialMean(OPTIONS).estimate()
