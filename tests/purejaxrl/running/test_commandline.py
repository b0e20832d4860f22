"""What a user reads when a command ends with an error."""

import numpy as np
import pytest

from purejaxrl.running.commandline import errors_in_words, plan_runs
from purejaxrl.running.signals import STOPPED, Stopped
from tests.purejaxrl.test_launch import Settings, build


@pytest.mark.parametrize(
    ("words", "how"),
    [
        ([], "'num_episodes': 16, 'greedy': False"),
        (["--eval-episodes", "3", "--eval-greedy"], "'num_episodes': 3, 'greedy': True"),
    ],
)
def test_policies_are_evaluated_as_the_command_line_says(words, how):
    (plan,) = plan_runs(Settings, build, words)
    assert how in plan.job.evaluator.name


def not_valid():
    raise ValueError("Settings.seeds: 0 is not valid; it must be an integer >= 1")


def unpacks_too_much():
    first, second = [1, 2, 3]
    return first, second


def stopped():
    raise Stopped("stopped at update 4 of 10")


def told(function, capfd, status=2):
    with pytest.raises(SystemExit) as ended, errors_in_words():
        function()
    assert ended.value.code == status
    return capfd.readouterr().err


def test_input_that_is_not_valid_is_named_without_a_traceback(capfd):
    assert told(not_valid, capfd) == (
        "error: Settings.seeds: 0 is not valid; it must be an integer >= 1\n"
    )


def test_a_run_that_was_stopped_has_a_status_of_its_own(capfd):
    assert told(stopped, capfd, STOPPED) == "stopped at update 4 of 10\n"


@pytest.mark.parametrize("function", [unpacks_too_much, lambda: np.zeros(3) + np.zeros(2)])
def test_an_error_of_the_code_has_a_traceback(function, capfd):
    found = told(function, capfd)
    assert found.startswith("Traceback") and __file__ in found
    assert found.splitlines()[-1].startswith("error: ")
