"""Meta-learners in several worlds at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import lpg, meta_lpg
from purejaxrl.meta import candidates, evolution, gradient
from tests.helpers import assert_equal
from tests.purejaxrl.meta.small import AGENT, ENV, HYPERS, first_gradient, start, world

FREE = HYPERS.replace(max_grad_norm=jnp.inf)


def by_gradient(worlds, num_agents=4):
    return meta_lpg.by_gradient(gradient.Config(num_agents, 2), AGENT, worlds)


@pytest.mark.slow
def test_one_world_in_a_list_is_that_world():
    state = start(by_gradient(world()), FREE)
    other = start(by_gradient([world()]), FREE)
    assert_equal(state, other)


@pytest.mark.slow
def test_the_meta_gradient_is_the_mean_over_the_agents_of_all_worlds():
    both = by_gradient([world(name="a"), world(name="b", lifetime=20, share=3)])
    state = start(both, FREE)
    assert [w.agents.slot.shape for w in state.worlds] == [(1,), (3,)]
    after, metrics = jax.jit(both.learn)(state, FREE, ())
    parts = []
    for i, count in enumerate((1, 3)):
        one = by_gradient(world(lifetime=(10, 20)[i]), count)
        alone = state._replace(worlds=state.worlds[i : i + 1])
        found, own = jax.jit(one.learn)(alone, FREE, ())
        parts.append(first_gradient(found))
        np.testing.assert_allclose(metrics["ab"[i] + "/meta_loss"], own["meta_loss"], rtol=1e-5)
        assert metrics["ab"[i] + "/env_steps"] == own["env_steps"]
    assert metrics["env_steps"] == metrics["a/env_steps"] + metrics["b/env_steps"]
    expected = jax.tree.map(lambda a, b: (a + 3 * b) / 4, *parts)
    for a, b in zip(*map(jax.tree.leaves, (first_gradient(after), expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_lives_have_the_hyperparameters_that_their_world_draws():
    def vary(key, hypers):
        return hypers.replace(learning_rate=jax.random.uniform(key, minval=1.0, maxval=2.0))

    learner = by_gradient([world(name="same"), world(name="varied", vary=vary)])
    state = start(learner, FREE)
    same, varied = (w.agents for w in state.worlds)
    assert same.hypers == ()
    rates = varied.hypers.learning_rate
    assert rates[0] != rates[1] and (rates >= 1).all() and (rates < 2).all()
    after, _ = jax.jit(learner.learn)(state, FREE, ())
    assert_equal(after.worlds[1].agents.hypers, varied.hypers)  # for a whole life
    frozen = FREE.replace(agent=FREE.agent.replace(learning_rate=0.0))
    moved = jax.jit(learner.learn)(state, frozen, ())[0].worlds
    params = [w.agents.state.params.actor for w in moved]
    assert_equal(params[0], same.state.params.actor)
    assert any((a != b).any() for a, b in zip(
        jax.tree.leaves(params[1]), jax.tree.leaves(varied.state.params.actor), strict=True
    ))  # fmt: skip


@pytest.mark.slow
def test_worlds_can_have_hyperparameters_of_their_own():
    learner = by_gradient([world(name="a"), world(name="b")])
    agent = {"a": FREE.agent.replace(learning_rate=0.0), "b": FREE.agent}
    state = start(learner, FREE.replace(agent=agent))
    after, _ = jax.jit(learner.learn)(state, FREE.replace(agent=agent), ())
    before, moved = ([w.agents.state.params for w in s.worlds] for s in (state, after))
    assert_equal(moved[0], before[0])
    assert (moved[1].actor["params"]["rows"] != before[1].actor["params"]["rows"]).any()
    with pytest.raises(ValueError, match=r"Hypers\.agent: a is not valid; .* world 'b'"):
        start(learner, FREE.replace(agent={"a": FREE.agent}))


def test_pairs_are_divided_among_worlds():
    learner = meta_lpg.by_evolution(
        evolution.Config(num_pairs=4, num_episodes=16, max_steps=50),
        AGENT,
        [world(name="a", lifetime=2), world(name="b", lifetime=3, share=3)],
    )
    hypers = evolution.Hypers(agent=lpg.Hypers(learning_rate=1.0), std=1.0)  # so that lives differ
    state = start(learner, hypers)
    after, metrics = jax.jit(learner.learn)(state, hypers, ())
    steps = 2 * AGENT.batch_size  # both of a pair
    assert metrics["a/env_steps"] == 2 * steps and metrics["b/env_steps"] == 3 * 3 * steps
    assert metrics["env_steps"] == 11 * steps
    assert any((x != y).any() for x, y in zip(
        jax.tree.leaves(after.params), jax.tree.leaves(state.params), strict=True
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("worlds", "expected"),
    [
        ([], r"worlds: \[\] is not valid; there must be one or more"),
        ([world(), world()], "each of its own name"),
        ([world(name="a", share=2), world(name="b")], r"num_agents: 4 .* multiple of 3, .*a: 2"),
        ([world(name="a", share=0)], "share of world 'a': 0 is not valid"),
        ([world(critic=None)], "critic: None is not valid"),
    ],
)
def test_worlds_that_do_not_fit_are_refused(worlds, expected):
    with pytest.raises(ValueError, match=expected):
        by_gradient(worlds)


@pytest.mark.parametrize(("num_devices", "group"), [(1, 24), (2, 12), (5, 4), (8, 3), (99, 1)])
def test_an_accelerator_takes_all_its_candidates_at_a_time(num_devices, group, monkeypatch):
    config = evolution.Config(num_pairs=12)
    (on_cpu,) = candidates.set_up(config, [world()], lpg.with_rule)
    assert (on_cpu.group, on_cpu.num_groups) == (2, 12)
    monkeypatch.setattr(candidates, "on_cpu", lambda: False)
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    (found,) = candidates.set_up(config, [world()], lpg.with_rule)
    assert (found.group, found.num_groups) == (group, 24 // group)


def test_groups_of_candidates_must_fit_every_world():
    with pytest.raises(ValueError, match="group: 4 is not valid; .* 2 candidates of world 'a'"):
        meta_lpg.by_evolution(
            evolution.Config(num_pairs=4, group=4), AGENT,
            [world(name="a"), world(name="b", share=3)],
        )  # fmt: skip


def test_agents_with_other_predictions_than_the_rules_are_refused():
    other = lpg.make(dataclasses.replace(AGENT, num_predictions=5), ENV)
    learner = by_gradient([world(name="a"), world(inner=other, name="b")])
    with pytest.raises(ValueError, match=r"world 'b': Hypers\.rule: .* is not"):
        start(learner, FREE)


def test_a_rule_of_another_shape_is_refused_as_a_start():
    rule = lpg.init_rule(jax.random.key(0), dataclasses.replace(AGENT, rule_width=4))
    with pytest.raises(ValueError, match="start_from: .* is not"):
        meta_lpg.start_from(rule, AGENT)
