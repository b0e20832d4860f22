import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from algos import clutr, grpo, ppo, ppo_rnn
from purejaxrl.meta import gradient
from purejaxrl.validation import check_hypers, hyper, require, require_known, require_names


def hypers_with(value, **bounds):
    kind = dataclasses.make_dataclass("Hypers", [("rate", object, hyper(0.5, **bounds))])
    return kind(value)


@pytest.mark.parametrize(
    ("bounds", "valid", "invalid", "expected"),
    [
        (dict(above=0), [1e-30, 1.0, 1e30], [0.0, -1.0], "a finite number > 0"),
        (dict(at_least=0), [0.0, 1.0], [-1e-30], "a finite number >= 0"),
        (dict(below=1), [0.999, -5.0], [1.0, 2.0], "a finite number < 1"),
        (dict(at_most=1), [1.0, -5.0], [1.001], "a finite number <= 1"),
        (dict(above=0, at_most=1), [0.5, 1.0], [0.0, 1.5], "a finite number > 0 and <= 1"),
        (dict(at_least=-2, below=3.5), [-2, 3], [-3, 3.5], "a finite number >= -2 and < 3.5"),
        (dict(above=0, infinite=True), [1.0, np.inf], [0.0, -np.inf], "a number > 0"),
        (dict(), [-1e9, 0.0], [np.inf, -np.inf], "a finite number"),
        (dict(infinite=True), [np.inf, -np.inf], [np.nan], "a number"),
    ],
)
def test_bounds_divide_valid_from_invalid_and_the_message_says_them(
    bounds, valid, invalid, expected
):
    for value in valid:
        check_hypers(hypers_with(value, **bounds))
    for value in [*invalid, np.nan]:
        with pytest.raises(ValueError) as error:
            check_hypers(hypers_with(value, **bounds))
        assert str(error.value) == (
            f"Hypers.rate: {float(value)!r} is not valid; it must be {expected}"
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match=r"Hypers\.rate: -?(nan|inf) is not valid"):
        check_hypers(hypers_with(value))


def test_the_default_is_the_declared_one():
    field = dataclasses.make_dataclass("Hypers", [("rate", float, hyper(0.25, above=0))])
    assert field().rate == 0.25


def test_hyperparameters_of_worlds_are_checked_one_by_one():
    """A meta-learner's field can be a dict by world, of numbers or of other hyperparameters."""
    hypers = gradient.Hypers(agent={"a": ppo.Hypers()}, critic_learning_rate={"a": 0.1, "b": 0.2})
    check_hypers(hypers)
    with pytest.raises(ValueError, match=r"Hypers.critic_learning_rate: -1.0 is not valid"):
        check_hypers(hypers.replace(critic_learning_rate={"a": 0.1, "b": -1.0}))
    with pytest.raises(ValueError, match=r"Hypers.learning_rate: -1.0 is not valid"):
        check_hypers(hypers.replace(agent={"a": ppo.Hypers(), "b": ppo.Hypers(learning_rate=-1.0)}))


@pytest.mark.parametrize("array", [np.array, jnp.array])
def test_in_a_population_the_message_names_the_member(array):
    check_hypers(hypers_with(array([0.5, 0.25]), above=0))
    with pytest.raises(ValueError, match=r"Hypers\.rate: -2\.0 is not valid \(member 1\); .* > 0"):
        check_hypers(hypers_with(array([0.5, -2.0, -3.0]), above=0))


@pytest.mark.parametrize("lift", [jax.jit, lambda f: jax.vmap(f, in_axes=0)])
def test_tracers_are_passed_over(lift):
    checked = []

    def check(rate):
        check_hypers(hypers_with(rate, above=0))
        checked.append(type(rate))
        return rate

    lift(check)(jnp.array([-1.0]))
    assert len(checked) == 1
    assert issubclass(checked[0], jax.core.Tracer)


class Critic(struct.PyTreeNode):
    decay: float = hyper(0.5, at_least=0, at_most=1)


class Outer(struct.PyTreeNode):
    critic: Critic = Critic()
    free: float = -5.0  # declared without bounds


def test_nested_hyperparameters_are_checked_too():
    check_hypers(Outer())
    with pytest.raises(ValueError, match=r"Critic\.decay: 2\.0 is not valid"):
        check_hypers(Outer(critic=Critic(2.0)))


def test_a_field_without_bounds_is_free():
    check_hypers(Outer(free=float("nan")))


def test_require_names_owner_field_value_and_range():
    @dataclasses.dataclass
    class Settings:
        size: int

    require(True, Settings(3), "size", "an integer >= 1")
    with pytest.raises(ValueError, match=r"^Settings\.size: -3 is not valid; it must be a count$"):
        require(False, Settings(-3), "size", "a count")


def test_an_unknown_name_gets_the_nearest_as_a_suggestion():
    known = ["CartPole-v1", "Pendulum-v1", "Catch-bsuite"]
    require_known("environment", "Catch-bsuite", known)
    with pytest.raises(ValueError) as error:
        require_known("environment", "cartpole", known)
    assert str(error.value).startswith("unknown environment 'cartpole'; did you mean: CartPole-v1")
    assert "Catch-bsuite" not in str(error.value)


def test_a_name_unlike_any_other_gets_all_of_them():
    with pytest.raises(ValueError, match="unknown thing 'zzz'; it must be one of alpha, beta"):
        require_known("thing", "zzz", ["beta", "alpha"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            (),
            r"^Tournament\.names: \(\) is not valid; it must be one or more of b, a, all",
        ),
        (("a", "b", "a"), r"^Tournament\.names: \('a', 'b', 'a'\) is not valid; .* of b, a, all"),
        (("a", "c"), "^unknown letter 'c'; it must be one of a, b"),
    ],
)
def test_names_are_known_and_different(names, message):
    @dataclasses.dataclass
    class Tournament:
        names: tuple[str, ...]

    require_names(Tournament(("b", "a")), "names", "letter", ("b", "a"))
    with pytest.raises(ValueError, match=message):
        require_names(Tournament(names), "names", "letter", iter(("b", "a")))


def test_many_valid_names_are_not_listed():
    @dataclasses.dataclass
    class Tournament:
        names: tuple[str, ...] = ()

    many = [f"letter-{i}" for i in range(21)]
    with pytest.raises(ValueError, match=r"one or more names of letters, all different$"):
        require_names(Tournament(), "names", "letter", many)
    with pytest.raises(ValueError, match=r"one or more of letter-0, .*letter-19, all different$"):
        require_names(Tournament(), "names", "letter", many[:20])


def test_the_defaults_are_valid():
    ppo.Config()
    ppo_rnn.Config()
    check_hypers(ppo.Hypers())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_envs=0), "Config.num_envs: 0 is not valid; it must be an integer >= 1"),
        (dict(num_steps=-1), "Config.num_steps: -1 is not valid; it must be an integer >= 1"),
        (dict(num_epochs=0), "Config.num_epochs: 0 is not valid; it must be an integer >= 1"),
        (dict(num_minibatches=0), "Config.num_minibatches: 0 is not valid; it must be an integer"),
        (
            dict(num_envs=3, num_steps=5, num_minibatches=4),
            "Config.num_minibatches: 4 is not valid; "
            "it must be a divisor of num_envs * num_steps = 15",
        ),
        (dict(hidden=()), "Config.hidden: () is not valid; it must be one or more widths >= 1"),
        (dict(hidden=(64, 0)), "Config.hidden: (64, 0) is not valid"),
        (dict(num_steps=2.5), "Config.num_steps: 2.5 is not valid; it must be an integer >= 1"),
        (dict(num_epochs=1.5), "Config.num_epochs: 1.5 is not valid; it must be an integer >= 1"),
        (dict(torso="rnn"), "Config.torso: 'rnn' is not valid; it must be"),
        (dict(activation="gelu2"), "Config.activation: 'gelu2' is not valid; it must be"),
    ],
    ids=lambda x: ",".join(x) if isinstance(x, dict) else "",
)
def test_an_invalid_setting_is_refused_on_construction(settings, message):
    with pytest.raises(ValueError) as error:
        ppo.Config(**settings)
    assert str(error.value).startswith(message)


def test_recurrent_minibatches_divide_the_environments():
    ppo_rnn.Config(num_envs=6, num_minibatches=3)
    with pytest.raises(ValueError, match=r"num_minibatches: 4 .* a divisor of num_envs = 6"):
        ppo_rnn.Config(num_envs=6, num_minibatches=4)
    with pytest.raises(ValueError, match=r"memory_size: 0 is not valid"):
        ppo_rnn.Config(memory_size=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", -1e-3), ("gamma", 1.01), ("gae_lambda", -0.1), ("clip_eps", 0.0)],
)
def test_invalid_hyperparameters_of_ppo_are_named(name, value):
    with pytest.raises(ValueError, match=rf"Hypers\.{name}: {value} is not valid; it must be"):
        check_hypers(ppo.Hypers(**{name: value}))


def test_an_infinite_value_clip_means_none():
    check_hypers(ppo.Hypers(value_clip_eps=float("inf")))


@pytest.mark.parametrize("module", [clutr, grpo, ppo], ids=lambda module: module.__name__)
def test_gradients_need_not_be_clipped(module):
    check_hypers(module.Hypers(max_grad_norm=float("inf")))


@pytest.mark.parametrize("hypers", [None, ppo.Hypers, {"learning_rate": 1e-3}], ids=str)
def test_hyperparameters_must_be_an_instance_of_their_class(hypers):
    with pytest.raises(ValueError, match=r"hypers: .* is not valid; it must be an instance of"):
        check_hypers(hypers)
