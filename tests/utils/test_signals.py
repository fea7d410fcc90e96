"""What Ctrl-C and SIGTERM do, and when."""

import signal

import pytest

from utils.signals import STOP_SIGNALS, InterruptedRun, deferred_signals, ignore_signals, stop_on_signals


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_raises_an_exception_of_its_own(number: signal.Signals) -> None:
    stop_on_signals("stopped; nothing is lost")
    with pytest.raises(InterruptedRun, match="nothing is lost"):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_waits_for_the_end_of_a_block_and_of_its_error(number: signal.Signals) -> None:
    stop_on_signals("stopped")
    done = list[int]()

    def work() -> None:
        with deferred_signals():
            with deferred_signals():
                signal.raise_signal(number)
                done.append(1)
            done.append(2)
            raise ValueError("x")

    with pytest.raises(InterruptedRun) as stop:
        work()
    assert done == [1, 2]
    assert isinstance(stop.value.__context__, ValueError)


def test_ignored_signals_do_nothing() -> None:
    ignore_signals()
    for number in STOP_SIGNALS:
        signal.raise_signal(number)
