"""Train on several hosts: start an experiment's processes, and watch them.

python -m purejaxrl.hosts --num-processes 2 experiments/ppo.py --seeds 64
python -m purejaxrl.hosts --num-processes 2 --process 0 --coordinator 10.0.0.1:9876 \\
    experiments/ppo.py --seeds 64
python -m purejaxrl.hosts experiments/ppo.py --seeds 64

The first command starts all processes on this machine. The second is for the first of two
machines, and `--process 1` for the other. The third is for every host of a TPU slice and every task
of a Slurm job, where JAX finds the other processes. What follows the experiment's file is its own
command line. OUT must be a folder that all processes share.

If a process is lost, all others end, and the last checkpoint stays valid. The same command with
`--resume` continues the run; the number of processes may differ.
"""

import contextlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from purejaxrl.running.commandline import errors_in_words
from purejaxrl.running.devices import CPU_DEVICES, num_cores, use_cpu_cores
from purejaxrl.running.logs import console, say
from purejaxrl.running.processes import Lost
from purejaxrl.running.signals import SIGNALS, STOPPED, Stopped
from purejaxrl.running.words import description
from purejaxrl.validation import COUNT, is_count, require

LOST = 75
"""Exit status of a process that ends because another one was lost (EX_TEMPFAIL)."""
GRACE = 20.0
"""Seconds that the other processes of this machine get to end after one was lost."""
LIVE = "from purejaxrl.hosts import live; live()"


@dataclass(frozen=True)
class Settings:
    """Which processes train together, and which of them to start."""

    num_processes: int | None = None
    """Processes in all; by default what the cluster says (a TPU slice, Slurm, …)."""
    process: int | None = None
    """Which of them to start here, from 0; by default all of them."""
    coordinator: str = ""
    """Address of process 0, HOST:PORT, which the others can reach; by default a free port here."""
    heartbeat_seconds: int = 100
    """How long a silent process counts as alive."""

    def __post_init__(self):
        count = self.num_processes
        require(count is None or is_count(count), self, "num_processes", f"{COUNT}, or None")
        inside = self.process is None or (count and 0 <= self.process < count)
        require(inside, self, "process", "an integer from 0 to num_processes - 1, or None")
        _, colon, port = self.coordinator.rpartition(":")
        named = bool(colon and port.isdigit()) if self.coordinator else self.process is None
        require(named, self, "coordinator", "HOST:PORT, which all processes are told")
        require(is_count(self.heartbeat_seconds), self, "heartbeat_seconds", COUNT)


def live() -> None:
    """Join the other processes, and run the experiment.

    The command line is `ADDRESS COUNT INDEX SECONDS FILE WORDS`. An address of "" means that JAX
    asks the cluster for it.
    """
    address, count, index, seconds, file, *words = sys.argv[1:]
    known = (address, int(count), int(index)) if address else ()
    use_cpu_cores()
    try:
        jax.distributed.initialize(*known, heartbeat_timeout_seconds=int(seconds))
    except ValueError as error:
        sys.exit(f"num_processes: no cluster was found ({error}); say how many processes there are")
    console.quiet = jax.process_index() > 0
    sys.argv, sys.path[0] = [file, *words], str(Path(file).parent)
    status: int | str | None = 0
    try:
        runpy.run_path(file, run_name="__main__")
        jax.distributed.shutdown()
    except Lost as error:
        print(f"process {jax.process_index()}: {error}", file=sys.stderr)
        status = LOST
    except Stopped as end:
        say(str(end))
        status = STOPPED
    except SystemExit as end:
        status = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    if isinstance(status, str):
        say(status)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)  # `jax.distributed` would wait for a process that was lost


def start(settings: Settings, words: Sequence[str]) -> dict[int, subprocess.Popen]:
    """Start this machine's processes, each on its share of the CPU; returns them by number."""
    count = settings.num_processes or 0
    address = settings.coordinator or (f"localhost:{free_port()}" if count else "")
    indices = range(count or 1) if settings.process is None else [settings.process]
    share = str(max(1, num_cores() // len(indices)))
    python = (sys.executable, "-c", LIVE)
    environment = {CPU_DEVICES: share} | os.environ
    return {
        index: subprocess.Popen(
            [*python, address, str(count), str(index), str(settings.heartbeat_seconds), *words],
            env=environment,
            start_new_session=True,  # Ctrl-C reaches them once, through this process
        )
        for index in indices
    }


def free_port() -> int:
    """Find a port of this machine that nothing uses."""
    with socket.socket() as any_port:
        any_port.bind(("localhost", 0))
        return any_port.getsockname()[1]


def watch(started: dict[int, subprocess.Popen]) -> int:
    """Wait until the processes have ended; when one is lost, say so and end the others.

    Signals that ask a run to stop are passed on, and the processes save and end.

    Returns:
        The exit status: 0 if all ended well, or else the first one that did not.
    """

    def pass_on(number: int, frame: object) -> None:
        for process in started.values():
            with contextlib.suppress(OSError):
                process.send_signal(number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    failed, deadline, running = 0, float("inf"), dict(started)
    while running:
        time.sleep(0.1)
        ended = {i: process.poll() for i, process in running.items() if process.poll() is not None}
        for index in sorted(ended, key=ended.get):  # a killed process before those that lost it
            del running[index]
            if ended[index] and not failed:
                failed, deadline = ended[index], time.monotonic() + GRACE
                if failed != STOPPED:  # a stopped process has printed that itself
                    say(_words_of(index, failed))
        if time.monotonic() > deadline:
            for process in running.values():
                process.kill()
    return failed


def _words_of(index: int, status: int) -> str:
    if status > 0 and status != LOST:
        return f"process {index} ended with an error (status {status}), so the run has ended"
    what = f"was ended by {signal.Signals(-status).name}" if status < 0 else "lost another process"
    return (
        f"process {index} {what}, so the run has ended; its last checkpoint is good: start all "
        "processes again with --resume"
    )


def main() -> None:
    """Start the processes that the command line asks for."""
    words = sys.argv[1:]
    file = next((i for i, word in enumerate(words) if word.endswith(".py")), len(words))
    with errors_in_words():
        settings = tyro.cli(Settings, args=words[:file], description=description(Settings))
        if file == len(words) or not Path(words[file]).exists():
            found = words[file] if file < len(words) else ""
            raise ValueError(f"experiment: {found!r} is not valid; it must be the file of one")
        status = watch(start(settings, words[file:]))
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
