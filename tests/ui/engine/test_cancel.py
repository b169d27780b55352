"""One computation at a time, in the order of asking, and nobody who has gone keeps the others waiting."""

import threading
import time

import pytest

from gendrpix.ui.engine.cancel import CancelToken, FairLock, StoppedError


def test_one_with_many_parts_lets_others_in_between() -> None:
    line, order, started = FairLock(), [], threading.Event()

    def many() -> None:
        for number in range(20):
            with line.turn(None):
                order.append(number)
                started.set()
                time.sleep(0.01)

    thread = threading.Thread(target=many)
    thread.start()
    started.wait(10)
    with line.turn(None):
        order.append("other")
    thread.join(10)
    assert "other" in order[:5] and len(order) == 21


def test_never_two_at_once_and_first_come_first_served() -> None:
    line, inside, order = FairLock(), [], []
    arrived = [threading.Event() for _ in range(5)]

    def one(number: int) -> None:
        arrived[number].set()
        with line.turn(None):
            inside.append(1)
            assert sum(inside) == 1
            order.append(number)
            inside.append(-1)

    with line.turn(None):
        threads = [threading.Thread(target=one, args=(number,)) for number in range(5)]
        for number, thread in enumerate(threads):
            thread.start()
            arrived[number].wait(10)
            while len(line._waiting) < number + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_who_stops_waiting_leaves_the_line() -> None:
    line, stop = FairLock(), CancelToken()
    stop.set()
    with line.turn(None):
        failures: list[BaseException] = []

        def waiting() -> None:
            try:
                with line.turn(stop):
                    pass
            except StoppedError as error:
                failures.append(error)

        thread = threading.Thread(target=waiting)
        thread.start()
        thread.join(10)
        assert len(failures) == 1 and len(line._waiting) == 1
    with pytest.raises(ValueError), line.turn(None):
        raise ValueError("within")
    with line.turn(None):
        assert len(line._waiting) == 1
