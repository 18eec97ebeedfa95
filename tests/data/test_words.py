"""Words of texts, their numbers, and rows of them, against values worked out by hand."""

import numpy as np
import pytest

from lt_lib.data import words

TEXTS = ["The cat sat.<br /><br />The END", "the dog's end; don't!", "cat 42 naïve"]


def test_words_are_lower_case_letters_with_apostrophes_inside():
    assert words.split_words(TEXTS[0]) == ["the", "cat", "sat", "the", "end"]
    assert words.split_words("'Tis the dog's 'end' - don't") == ["tis", "the", "dog's", "end", "don't"]
    assert words.split_words("cat 42 naïve") == ["cat", "na", "ve"]
    assert words.split_words("<p class='x'>10/10</p>") == []


def test_other_letters_and_lone_brackets_cut_words_as_stated():
    assert words.split_words("Amélie") == ["am", "lie"]
    assert words.split_words("2 < 3 words lost > 1 kept") == ["kept"]
    assert words.split_words("left < right") == ["left", "right"]


def test_the_most_frequent_words_get_the_first_numbers_and_ties_go_by_the_alphabet():
    # the 3; cat 2, end 2; then one each: dog's, don't, na, sat, ve
    whole = words.make_vocabulary(TEXTS, 100)
    assert whole == {"the": 2, "cat": 3, "end": 4, "dog's": 5, "don't": 6, "na": 7, "sat": 8, "ve": 9}
    assert words.make_vocabulary(TEXTS, 5) == {"the": 2, "cat": 3, "end": 4}
    assert words.make_vocabulary(reversed(TEXTS), 100) == whole


def test_rows_hold_the_last_words_and_padding_behind_them():
    vocabulary = words.make_vocabulary(TEXTS, 5)
    rows = words.encode([TEXTS[0], TEXTS[1], ""], vocabulary, 4)
    assert rows.dtype == np.int64
    # cat sat the end; the dog's end don't, of which two are unknown; nothing
    assert rows.tolist() == [[3, 1, 2, 4], [2, 1, 4, 1], [0, 0, 0, 0]]
    assert words.encode([TEXTS[0]], vocabulary, 7).tolist() == [[2, 3, 1, 2, 4, 0, 0]]


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="`size` must be an integer of at least 3, got 2"):
        words.make_vocabulary(TEXTS, 2)
    with pytest.raises(ValueError, match="`tokens` must be an integer of at least 1, got 0"):
        words.encode(TEXTS, {}, 0)
