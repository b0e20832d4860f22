"""What does not fit is refused with a named error, before anything is traced."""

import pytest

from algos.objectives import OBJECTIVES, Answers, check_objective
from algos.objectives.group import pass_at_k
from purejaxrl.validation import check_hypers

ALL = Answers._fields
WITH_DEMONSTRATIONS = [n for n, o in OBJECTIVES.items() if "demonstration" in o.needs]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_fits_is_accepted_and_default_coefficients_are_valid(name):
    check_objective(OBJECTIVES[name], 8, ALL)
    check_hypers(OBJECTIVES[name].coefs)
    assert OBJECTIVES[name].name == name


@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if o.fewest_answers > 1])
def test_a_group_of_one_is_refused_where_answers_are_compared(name):
    with pytest.raises(ValueError, match=rf"num_answers: 1 is not valid; {name} needs .* >= \d"):
        check_objective(OBJECTIVES[name], 1, ALL)


def test_k_of_pass_at_k_must_not_exceed_the_number_of_answers():
    with pytest.raises(ValueError, match="num_answers: 4 is not valid; pass_at_8 needs .* >= 8"):
        check_objective(pass_at_k(8), 4, ALL)
    with pytest.raises(ValueError, match="k: 1 is not valid; it must be an integer >= 2"):
        pass_at_k(1)


@pytest.mark.parametrize("name", WITH_DEMONSTRATIONS)
def test_a_missing_demonstration_is_refused_where_one_is_needed(name):
    given = [field for field in ALL if not field.startswith("demonstration")]
    with pytest.raises(ValueError, match=rf"objective: '{name}' is not valid; .*'demonstration'"):
        check_objective(OBJECTIVES[name], 8, given)


def test_coefficients_out_of_range_are_refused():
    coefs = OBJECTIVES["copg"].coefs.replace(beta=0.0)
    with pytest.raises(ValueError, match=r"Copg.beta: 0.0 is not valid; it must be .* > 0"):
        check_hypers(coefs)
