"""GROOVE against LPG: the curricula are all that differs between meta-learners."""

from dataclasses import fields

from algos import groove


def test_the_meta_learners_of_all_curricula_have_equal_budgets_and_hyperparameters(
    experiment, tmp_path
):
    settings = experiment.Settings(
        learner=groove.Config(
            num_agents=8, num_updates=3, group=4, rematerialize=True, capacity=16
        ),
        hypers=groove.hypers(learning_rate=0.01, max_grad_norm=1.0, gamma=0.9),
        out=tmp_path,
    )
    same = {field.name for field in fields(settings.hypers)} - {"curriculum", "antagonist"}
    for curriculum in ("uniform", "tabular", "regret"):
        learner, hypers = experiment.make_learner(settings, curriculum)
        for name in experiment.SHARED:
            assert getattr(learner.config, name) == getattr(settings.learner, name)
        for name in same:
            assert getattr(hypers, name) == getattr(settings.hypers, name)
