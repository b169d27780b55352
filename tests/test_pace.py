"""Deadlines follow the measured pace of the machine, within bounds."""

import pytest

from tests.helpers import pace


def clock(*seconds: float):
    readings = iter(seconds)
    return lambda: next(readings)


@pytest.mark.parametrize(
    ("work_s", "load", "expected"),
    [
        (pace.REFERENCE_S, 0.0, 1.0),
        (pace.REFERENCE_S / 4, 0.0, 1.0),  # a faster machine has as long
        (pace.REFERENCE_S * 3, 0.0, 3.0),
        (pace.REFERENCE_S, 12.0, 6.0),  # six processes wait for each core
        (pace.REFERENCE_S * 1000, 0.0, pace.MOST),
    ],
)
def test_a_deadline_is_as_long_as_the_machine_is_slow(
    monkeypatch: pytest.MonkeyPatch, work_s: float, load: float, expected: float
) -> None:
    monkeypatch.setattr(pace.time, "perf_counter", clock(100.0, 100.0 + work_s))
    monkeypatch.setattr(pace, "fixed_work", lambda: 0)
    monkeypatch.setattr(pace.os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(pace.os, "cpu_count", lambda: 2)
    assert pace.scaled(60) == pytest.approx(60 * expected)
