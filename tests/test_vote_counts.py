"""vote_counts: exact counts, ties, NaN rows, arrays of every kind, refusals.

Oracle: tamis.reference.vote_counts (NumPy's argmax, which takes the first of equal entries) and,
for torch tensors, ``torch.argmax`` where there are no ties, which it may break as it likes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tamis
from tamis import reference

FLOATS = (np.float16, np.float32, np.float64)


def random_logits(rows: int, classes: int, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal((rows, classes)).astype(dtype)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [1, 7, 33, 1023])
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 33, 100, 1000, 3001])
def test_equals_numpy(dtype: Any, rows: int, classes: int) -> None:
    logits = random_logits(rows, classes, dtype, seed=classes)
    counts = tamis.vote_counts(logits)
    assert counts.dtype == np.int64
    assert counts.shape == (classes,)
    assert (counts == reference.vote_counts(logits)).all()
    assert counts.sum() == rows


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), dtype=st.sampled_from(FLOATS))
def test_few_values_many_ties(data: st.DataObject, dtype: Any) -> None:
    """Entries from a handful of values: nearly every row has ties, in every position."""
    rows, classes = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
    values = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 2.0**-24, 65504.0])
    entries = data.draw(st.lists(values, min_size=rows * classes, max_size=rows * classes))
    logits = np.array(entries, dtype=dtype).reshape(rows, classes)
    assert (tamis.vote_counts(logits) == reference.vote_counts(logits)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [2, 7, 8, 9, 33, 1023])
def test_ties_go_to_the_lowest_index(dtype: Any, classes: int) -> None:
    """Every pair of places, among them pairs in different vector lanes and in the ragged end."""
    places = sorted({0, 1, classes // 2, classes - 2, classes - 1} & set(range(classes)))
    for first in places:
        for second in (place for place in places if place > first):
            logits = np.full((3, classes), -1, dtype)
            logits[:, [first, second]] = 5
            expected = np.zeros(classes, np.int64)
            expected[first] = 3
            assert (tamis.vote_counts(logits) == expected).all()


def test_all_entries_equal() -> None:
    """Also where all are -inf or signed zeros, which compare equal."""
    for row in ([0.0] * 37, [-np.inf] * 37, [np.inf] * 37, [-0.0, 0.0] * 19):
        counts = tamis.vote_counts(np.array([row, row], np.float32))
        assert counts[0] == 2
        assert counts.sum() == 2


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinities_are_ordinary_values(dtype: Any) -> None:
    logits = np.array([[0, np.inf, 1], [-np.inf, -1, -2], [-np.inf, -np.inf, -3]], dtype)
    assert tamis.vote_counts(logits).tolist() == [0, 2, 1]


def test_values_one_bit_apart() -> None:
    """The comparison is in the type of the logits, without rounding on the way."""
    for dtype in FLOATS:
        one = dtype(1)
        logits = np.full((1, 33), one)
        logits[0, 20] = np.nextafter(one, dtype(2))
        assert tamis.vote_counts(logits)[20] == 1


def test_one_class_and_no_rows() -> None:
    assert tamis.vote_counts(np.zeros((5, 1), np.float32)).tolist() == [5]
    for dtype in FLOATS:
        assert tamis.vote_counts(np.zeros((0, 3), dtype)).tolist() == [0, 0, 0]
    assert tamis.vote_counts(np.zeros((0, 3), np.float32), 3, out=np.full(3, 7)).tolist() == [0] * 3


# ---- NaN ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [1, 7, 8, 33, 1001])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_nan_row_is_named(dtype: Any, classes: int, place: str) -> None:
    logits = random_logits(50, classes, dtype)
    column = {"first": 0, "middle": classes // 2, "last": classes - 1}[place]
    logits[31, column] = np.nan
    logits[47, 0] = np.nan  # the first such row counts
    with pytest.raises(tamis.NaNRowError, match="NaN in row 31") as caught:
        tamis.vote_counts(logits)
    assert caught.value.row == 31
    assert isinstance(caught.value, ValueError)
    assert tamis.vote_counts(logits[:31]).sum() == 31


def test_a_nan_of_either_sign_beside_infinities() -> None:
    for nan in (np.float32(np.nan), -np.float32(np.nan)):
        for other in (np.inf, -np.inf, 0.0):
            logits = np.full((2, 19), other, np.float32)
            logits[1, 11] = nan
            with pytest.raises(tamis.NaNRowError) as caught:
                tamis.vote_counts(logits)
            assert caught.value.row == 1


def test_nan_between_the_rows_does_not_matter() -> None:
    buffer = np.full((6, 20), np.nan, np.float32)
    buffer[::2, 3:10] = random_logits(3, 7)
    view = buffer[::2, 3:10]
    assert (tamis.vote_counts(view) == reference.vote_counts(view)).all()


# ---- arrays ------------------------------------------------------------------------------------


def test_rows_may_lie_apart_and_logits_are_never_modified() -> None:
    buffer = random_logits(101, 50)
    before = buffer.tobytes()
    buffer.flags.writeable = False
    for view in (buffer, buffer[3:90:4], buffer[:, 7:44], buffer[5:6, 1:], buffer[10:20, 49:]):
        assert (tamis.vote_counts(view) == reference.vote_counts(view)).all()
    assert buffer.tobytes() == before


def test_rows_that_are_not_dense_are_refused() -> None:
    logits = random_logits(8, 10)
    for view in (logits.T, logits[:, ::2], logits[::-1], np.broadcast_to(logits[0], (4, 10))):
        with pytest.raises(ValueError, match=r"^logits: expected dense rows"):
            tamis.vote_counts(view)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("classes", [1, 3, 10, 33])
def test_torch_types(torch: Any, name: str, classes: int) -> None:
    logits = torch.from_numpy(random_logits(257, classes)).to(getattr(torch, name))
    counts = tamis.vote_counts(logits, classes)
    assert isinstance(counts, torch.Tensor)
    assert counts.dtype == torch.int64
    # As float64 every value is exact, and NumPy's argmax breaks ties as promised.
    assert counts.tolist() == reference.vote_counts(logits.double().numpy()).tolist()
    if name in ("float32", "float64"):
        assert torch.equal(counts, torch.bincount(logits.argmax(1), minlength=classes))


def test_torch_bfloat16_special_values(torch: Any) -> None:
    logits = torch.zeros(4, 19, dtype=torch.bfloat16)
    logits[0, 17] = torch.inf
    logits[1, 5] = logits[1, 6] = 1 + 2**-7
    logits[2] = -torch.inf
    logits[3, 18] = 2.0**-130  # subnormal
    assert tamis.vote_counts(logits).nonzero().flatten().tolist() == [0, 5, 17, 18]
    logits[2, 18] = torch.nan
    with pytest.raises(tamis.NaNRowError) as caught:
        tamis.vote_counts(logits)
    assert caught.value.row == 2


def test_torch_views_and_refusals(torch: Any) -> None:
    logits = torch.from_numpy(random_logits(20, 12))
    for view in (logits[::3], logits[:, 2:9], logits[4:4]):
        expected = np.bincount(view.numpy().argmax(axis=1), minlength=view.shape[1])
        assert tamis.vote_counts(view).tolist() == expected.tolist()
    with pytest.raises(ValueError, match=r"^logits: expected dense rows"):
        tamis.vote_counts(logits.T)
    with pytest.raises(ValueError, match=r"^logits: expected a tensor outside autograd"):
        tamis.vote_counts(logits.clone().requires_grad_())
    with pytest.raises(ValueError, match=r"^logits: expected .*meta"):
        tamis.vote_counts(torch.zeros(2, 3, device="meta"))
    with pytest.raises(TypeError, match=r"^logits: expected dtype"):
        tamis.vote_counts(logits.long())


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, object, np.complex64, ">f4", np.longdouble])
def test_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"^logits: expected dtype float32 or float16 or"):
        tamis.vote_counts(np.zeros((2, 3), dtype))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1), (2, 0), (0, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^logits: expected shape \(B, C\) with C >= 1"):
        tamis.vote_counts(np.zeros(shape, np.float32))


def test_not_an_array() -> None:
    for logits in ([[1.0, 2.0]], None, 1.0):
        with pytest.raises(TypeError, match=r"^logits: expected a NumPy array, a torch tensor or"):
            tamis.vote_counts(logits)


# ---- num_classes and out -----------------------------------------------------------------------


def test_num_classes_is_checked() -> None:
    logits = random_logits(5, 3)
    assert (tamis.vote_counts(logits, 3) == tamis.vote_counts(logits)).all()
    for wrong in (2, 4, 10):
        with pytest.raises(ValueError, match=rf"^num_classes: .* 3 columns, expected {wrong}"):
            tamis.vote_counts(logits, wrong)
    with pytest.raises(ValueError, match=r"^num_classes"):
        tamis.vote_counts(logits, 0)
    number: Any
    for number in (3.0, True, "3"):
        with pytest.raises(TypeError, match=r"^num_classes"):
            tamis.vote_counts(logits, number)


def test_out_is_overwritten_and_returned(torch: Any) -> None:
    logits = random_logits(101, 7)
    out = np.full(7, 999, np.int64)
    assert tamis.vote_counts(logits, out=out) is out
    assert (out == reference.vote_counts(logits)).all()
    table = np.full((3, 7), 999, np.int64)
    tamis.vote_counts(logits, out=table[1])
    assert (table[1] == out).all()
    assert (table[[0, 2]] == 999).all()
    tensor_out = torch.full((7,), 999)
    assert tamis.vote_counts(torch.from_numpy(logits), out=tensor_out) is tensor_out
    assert tensor_out.tolist() == out.tolist()


def test_unfit_out_is_refused(torch: Any) -> None:
    logits = random_logits(11, 4)
    for shape in ((3,), (5,), (4, 1), ()):
        with pytest.raises(ValueError, match=r"^out: expected shape \(4,\)"):
            tamis.vote_counts(logits, out=np.zeros(shape, np.int64))
    for dtype in (np.int32, np.uint64, np.float64):
        with pytest.raises(TypeError, match=r"^out: expected an int64 array"):
            tamis.vote_counts(logits, out=np.zeros(4, dtype))
    locked = np.zeros(4, np.int64)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out: expected a writable array"):
        tamis.vote_counts(logits, out=locked)
    with pytest.raises(ValueError, match=r"dense out \(C,\)"):
        tamis.vote_counts(logits, out=np.zeros(8, np.int64)[::2])
    with pytest.raises(TypeError, match=r"^out: expected the array library of the input"):
        tamis.vote_counts(logits, out=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"^out: expected the array library of the input"):
        tamis.vote_counts(torch.from_numpy(logits), out=np.zeros(4, np.int64))
    with pytest.raises(ValueError, match=r"^out: expected .*meta"):
        tamis.vote_counts(
            torch.from_numpy(logits), out=torch.zeros(4, dtype=torch.int64, device="meta")
        )


def test_out_that_overlaps_logits_is_refused() -> None:
    logits = np.zeros((3, 4))
    with pytest.raises(ValueError, match="overlapping memory"):
        tamis.vote_counts(logits, out=logits[1].view(np.int64))
    assert not logits.any()


# ---- instruction sets and threads --------------------------------------------------------------


def test_every_instruction_set_counts_the_same() -> None:
    script = """
        import numpy as np, tamis
        rng = np.random.default_rng(3)
        print(tamis.info()["isa"])
        for dtype in (np.float16, np.float32, np.float64):
            for classes in (1, 7, 8, 9, 17, 33, 1000):
                logits = rng.integers(-9, 9, (97, classes)).astype(dtype)  # full of ties
                assert (
                    tamis.vote_counts(logits)
                    == np.bincount(logits.argmax(axis=1), minlength=classes)
                ).all(), (dtype, classes)
                logits[70, classes // 2] = np.nan
                try:
                    tamis.vote_counts(logits)
                except tamis.NaNRowError as error:
                    assert error.row == 70
                else:
                    raise AssertionError("a NaN went unnoticed")
    """
    for isa in tamis.info()["isas_available"]:
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={**os.environ, "TAMIS_FORCE_ISA": isa},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == isa


def test_calls_from_eight_threads_at_once() -> None:
    blocks = [random_logits(301, 13, seed=seed) for seed in range(32)]
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(tamis.vote_counts, blocks))
    for block, counts in zip(blocks, results, strict=True):
        assert (counts == reference.vote_counts(block)).all()
