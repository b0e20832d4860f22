"""Signals that ask a run to stop: Ctrl-C, SIGTERM, and SIGHUP (the terminal was closed)."""

import contextlib
import signal
import sys
import types
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = 76
"""Exit status of a process that has saved and ended because a signal asked it to."""


class Stopped(SystemExit):
    """A signal asked the run to stop; it has saved and can be resumed."""


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect signals instead of dying of them; a second Ctrl-C raises `KeyboardInterrupt`.

    Signals that the process ignores, as SIGHUP under nohup, stay ignored. Outside of the main
    thread, where Python delivers no signals, the list stays empty.

    Yields:
        The numbers of the signals received so far.
    """
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        with contextlib.suppress(OSError):  # a closed terminal takes no message
            print("\nstopping after this chunk; Ctrl-C again stops at once", file=sys.stderr)

    before = {}
    with contextlib.suppress(ValueError):  # not the main thread
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt_quietly() -> None:
    """Let Ctrl-C end this process with one line and status 130 wherever nothing else handles it."""
    before = sys.excepthook

    def hook(kind: type, error: BaseException, trace: types.TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook
