"""Which GPU each worker gets: by UUID, translated from whatever was set before."""

import pytest

from lt_lib.batch.devices import place_workers, visible_gpus

LISTING = "".join(f"{index}, GPU-{letter * 8}-0000\n" for index, letter in enumerate("abcdef"))
ALL = [f"GPU-{letter * 8}-0000" for letter in "abcdef"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, ALL),
        ("3,5", [ALL[3], ALL[5]]),
        (" 5 , 3", [ALL[5], ALL[3]]),
        ("GPU-bbbbbbbb-0000,GPU-aaaa", [ALL[1], ALL[0]]),
        ("", []),
        ("-1", []),
        ("1,9,2", [ALL[1]]),
        ("MIG-1234", ["MIG-1234"]),
    ],
)
def test_what_is_visible_follows_the_setting(setting, expected):
    environment = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    assert visible_gpus(environment, LISTING) == expected


def test_without_a_driver_there_are_no_gpus():
    assert visible_gpus({}, "") == []
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}, "") == []


@pytest.mark.parametrize(
    ("gpus", "per_run", "workers", "expected"),
    [
        (2, 1.0, None, ["g0", "g1"]),
        (2, 1.0, 1, ["g0"]),
        (2, 0.5, None, ["g0", "g1", "g0", "g1"]),
        (1, 0.3, None, ["g0"] * 3),
        (4, 2.0, None, ["g0,g1", "g2,g3"]),
        (5, 2.0, None, ["g0,g1", "g2,g3"]),
        (3, 0.0, None, [""] * 8),
        (3, 0.0, 2, [""] * 2),
    ],
)
def test_workers_are_spread_over_gpus(gpus, per_run, workers, expected):
    devices, message = place_workers([f"g{index}" for index in range(gpus)], per_run, workers, 8)
    assert devices == expected
    assert message == ""


@pytest.mark.parametrize(
    ("gpus", "per_run", "workers", "expected", "message"),
    [
        (0, 1.0, 3, [""] * 3, "No GPU is visible here: the runs use the CPU."),
        (1, 2.0, None, [""], "One run needs 2 GPUs, 1 are visible: the runs use the CPU."),
        (1, 0.5, 5, ["g0", "g0"], "5 workers were asked for; the visible GPUs hold 2 runs at once."),
    ],
)
def test_what_does_not_fit_is_said(gpus, per_run, workers, expected, message):
    assert place_workers([f"g{index}" for index in range(gpus)], per_run, workers, 8) == (expected, message)
