"""Philox4x32-10: the words that every noise value is made of.

Oracles: tests/data/philox_kat.txt, whose first three rows are the vectors published by the authors
of the generator, and a second implementation below, on Python integers, in the paper's own terms.
NumPy's ``np.random.Philox`` cannot serve: it is the 4x64 member of the family, with other constants
and other word sizes. torch has a Philox4x32 on CUDA only.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tamis import reference

KNOWN_ANSWERS = Path(__file__).parent / "data" / "philox_kat.txt"
PUBLISHED = (
    "00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd",
    "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1",
)
WORD = st.integers(0, 2**32 - 1)
FALSE_ALARM = 1e-6


def known_answers() -> list[str]:
    lines = KNOWN_ANSWERS.read_text(encoding="ascii").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def by_the_paper(counter: list[int], key: int) -> list[int]:
    """Ten rounds, the key raised by the Weyl constants before each round but the first."""
    left, right = key % 2**32, key // 2**32
    for round_number in range(10):
        if round_number > 0:
            left = (left + 0x9E3779B9) % 2**32
            right = (right + 0xBB67AE85) % 2**32
        high_0, low_0 = divmod(0xD2511F53 * counter[0], 2**32)
        high_1, low_1 = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = [high_1 ^ counter[1] ^ left, low_1, high_0 ^ counter[3] ^ right, low_0]
    return counter


def test_the_file_of_known_answers_holds_the_published_vectors() -> None:
    assert tuple(known_answers()[:3]) == PUBLISHED
    assert len(known_answers()) >= 10


@pytest.mark.parametrize("line", known_answers())
def test_known_answers(line: str) -> None:
    words = [int(word, 16) for word in line.split()]
    assert len(words) == 10
    counter, key, answer = words[:4], words[4] + (words[5] << 32), words[6:]
    result = reference.philox4x32_10(counter, key)
    assert result.dtype == np.uint32
    assert result.tolist() == answer
    assert by_the_paper(counter, key) == answer


@settings(max_examples=200, deadline=None, derandomize=True)
@given(counter=st.lists(WORD, min_size=4, max_size=4), key=st.integers(0, 2**64 - 1))
def test_equals_a_second_implementation(counter: list[int], key: int) -> None:
    assert reference.philox4x32_10(counter, key).tolist() == by_the_paper(counter, key)


def test_works_on_arrays_of_counters() -> None:
    counters = np.random.default_rng(1).integers(0, 2**32, size=(3, 7, 4), dtype=np.uint64)
    words = reference.philox4x32_10(counters, 2**63 + 5)
    assert words.shape == (3, 7, 4)
    for row, column in ((0, 0), (1, 5), (2, 6)):
        expected = by_the_paper([int(c) for c in counters[row, column]], 2**63 + 5)
        assert words[row, column].tolist() == expected
    assert reference.philox4x32_10(np.empty((0, 4), np.uint64), 1).shape == (0, 4)


def test_counters_are_not_modified() -> None:
    counter = np.array([1, 2, 3, 4], dtype=np.uint64)
    reference.philox4x32_10(counter, 9)
    assert counter.tolist() == [1, 2, 3, 4]


def test_every_bit_of_counter_and_key_changes_half_of_the_words() -> None:
    """Avalanche. A flip of one of the 192 input bits flips each output bit with probability 1/2.

    Per input bit: flipped output bits ~ Binomial(128 N, 1/2). Two-sided, 192 times, 1e-6 overall.
    """
    n = 1009
    rng = np.random.default_rng(2)
    counters = rng.integers(0, 2**32, size=(n, 4), dtype=np.uint64)
    key = int(rng.integers(0, 2**63)) * 2 + 1
    words = reference.philox4x32_10(counters, key)
    flipped = []
    for bit in range(192):
        mask = np.zeros(4, dtype=np.uint64)
        if bit < 128:
            mask[bit // 32] = 1 << (bit % 32)
        other_key = key if bit < 128 else key ^ (1 << (bit - 128))
        other = reference.philox4x32_10(counters ^ mask, other_key)
        flipped.append(int(np.unpackbits((words ^ other).view(np.uint8)).sum()))
    low, high = stats.binom.ppf([FALSE_ALARM / 192 / 2, 1 - FALSE_ALARM / 192 / 2], 128 * n, 0.5)
    assert low <= min(flipped)
    assert max(flipped) <= high
