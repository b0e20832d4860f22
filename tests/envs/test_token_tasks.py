"""Token tasks: verifiers against independent ones in plain Python."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.token_prompts import END, PAD, VOCABULARY, Countdown, code, read, write
from envs.token_tasks import rearrange

NAMES = ("token-arithmetic", "token-copy", "token-countdown", "token-reverse", "token-sort")
TASKS = {name: envs.make(name)[0] for name in NAMES}
judge = jax.jit(
    jax.vmap(lambda env, level, tokens: env.judge(level, tokens), in_axes=(None, 0, 0)),
    static_argnums=0,
)


def verify_in_python(name: str, prompt: str, answer: str) -> bool:
    """Judge an answer without its end token."""
    if name == "token-countdown":
        shown, target = re.fullmatch(r"(\d{3}):(\d\d)=", prompt).groups()
        if not re.fullmatch(r"\d[-+*]\d[-+*]\d", answer):
            return False
        a, first, b, second, c = answer
        return sorted(a + b + c) == sorted(shown) and (
            eval(f"({a}{first}{b}){second}{c}") == int(target)
        )
    if name == "token-arithmetic":
        value = int(prompt[0])
        for operator, number in re.findall(r"([-+*])(\d)", prompt):
            value = eval(f"{value}{operator}{number}") % 10
        return bool(re.fullmatch(r"\d+", answer)) and int(answer[-1]) == value
    digits = re.fullmatch(r"[crs](\d+)=", prompt)[1]
    expected = {"copy": digits, "reverse": digits[::-1], "sort": "".join(sorted(digits))}
    return answer == expected[name.removeprefix("token-")]


def corrupted(rng: np.random.Generator, solution: np.ndarray) -> np.ndarray:
    """Change up to two tokens of a solution, or none."""
    tokens = solution.copy()
    for _ in range(rng.integers(0, 3)):
        tokens[rng.integers(0, (solution == END).argmax() + 1)] = rng.integers(0, len(VOCABULARY))
    return tokens


def test_the_last_step_of_a_calculation_is_right_if_the_result_is():
    """Of `7*8-9=`, with the solution `67.`: an answer may skip a step, and may not end wrongly."""
    env = TASKS["token-arithmetic"]
    texts = [read(prompt) for prompt in np.asarray(env.levels.prompt)]
    which = next(i for i, text in enumerate(texts) if re.fullmatch(r"\d\D\d\D\d=", text))
    level = jax.tree.map(lambda x: x[which], env.levels)
    first, last = (VOCABULARY[token] for token in np.asarray(level.solution)[:2])
    other = str((int(last) + 1) % 10)
    answers = {f"{first}{last}.": [1, 1, 1], f"{first}{other}.": [1, 0, 0], f"{last}.": [1, 1]}
    full = f"{first}{other}{other}{other}{other}{last}"  # its room is full before it ends
    answers[full + last] = [1, 0, 0, 0, 0, 0, 0]
    for answer, expected in answers.items():
        tokens = jnp.asarray(write(answer, env.answer_length, left=False))
        found = np.asarray(env.judge(level, tokens).step_reward)
        assert found[: len(answer)].tolist() == expected, answer
        assert not found[len(answer) :].any()


@pytest.mark.parametrize("name", NAMES)
def test_the_verifier_agrees_with_one_in_python(name):
    env, rng = TASKS[name], np.random.default_rng(1)
    levels = jax.tree.map(lambda x: x[:1000], env.levels)
    if name == "token-countdown":  # other orders of the numbers, and other operators
        tokens = np.stack([write(f"{a}{o}{b}{p}{c}.", env.answer_length, left=False)
                           for level in np.asarray(levels.prompt)
                           for (a, b, c), o, p in [(rng.permutation(list(read(level)[:3])),
                                                    *rng.choice(list("+-*"), 2))]])  # fmt: skip
        tokens[::2] = [corrupted(rng, row) for row in tokens[::2]]
    else:
        tokens = np.stack([corrupted(rng, row) for row in levels.solution])
    found = judge(env, levels, jnp.asarray(tokens))
    expected, lengths = [], []
    for prompt, row in zip(levels.prompt, tokens, strict=True):
        ends = np.flatnonzero(row == END)
        length = ends[0] + 1 if len(ends) else len(row)
        answer = "".join(VOCABULARY[token] for token in row[: length - 1])
        expected.append(len(ends) > 0 and verify_in_python(name, read(prompt), answer))
        lengths.append(length)
    np.testing.assert_array_equal(found.reward, np.array(expected, np.float32))
    np.testing.assert_array_equal(found.length, lengths)
    assert 0.03 < np.mean(expected) < 0.97
    assert (found.other_rewards[:, 0] >= found.reward).all()


@pytest.mark.parametrize("name", NAMES)
def test_reference_solutions_verify_and_every_step_of_them(name):
    env = TASKS[name]
    for levels in (env.levels, env.held_out):
        found = judge(env, levels, jnp.asarray(levels.solution))
        assert (found.reward == 1).all()
        assert (found.other_rewards[:, 0] == 1).all()
        written = np.arange(env.answer_length) < np.asarray(found.length)[:, None]
        np.testing.assert_array_equal(found.step_reward, written)
        np.testing.assert_array_equal(levels.step >= 0, written)
        assert (np.diff(levels.step, axis=1)[written[:, 1:]] >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_prompts_differ_and_all_difficulties_occur(name):
    env = TASKS[name]
    prompts = np.concatenate([env.levels.prompt, env.held_out.prompt])
    assert len(np.unique(prompts, axis=0)) == len(prompts) > 1500
    for levels in (env.levels, env.held_out):
        bins = np.bincount(levels.difficulty, minlength=env.num_difficulties)
        assert (bins > 10).all() and len(bins) == env.num_difficulties
    assert 16 <= env.vocabulary <= 32
    assert env.answer_length <= 16


def test_countdown_accepts_exactly_the_correct_expressions_and_bins_by_their_number():
    kind, levels = Countdown(), TASKS["token-countdown"].levels
    listing = jax.jit(kind.correct_answers)
    for i in range(50):
        answers, is_right = map(np.asarray, listing(jnp.asarray(levels.prompt[i])))
        found = {read(a) for a, right in zip(answers, is_right, strict=True) if right}
        prompt = read(levels.prompt[i])
        expected = {
            f"{a}{o}{b}{p}{c}"
            for (a, b, c) in itertools.permutations(prompt[:3])
            for o, p in itertools.product("+-*", repeat=2)
            if verify_in_python("token-countdown", prompt, f"{a}{o}{b}{p}{c}")
        }
        assert found == expected
        assert levels.difficulty[i] == (0 if len(found) > 4 else 1 if len(found) > 2 else 2)


def test_a_step_is_right_as_long_as_a_correct_answer_begins_like_this():
    env = TASKS["token-countdown"]
    level = jax.tree.map(lambda x: x[:1], env.levels)
    level = level.replace(prompt=write("372:42=", 7, left=True)[None])
    answers = [write(text, 8, left=False)[None] for text in ("7*3+2.", "3*7*2.", "3+7*2.")]
    steps = [judge(env, level, jnp.asarray(tokens)).step_reward[0] for tokens in answers]
    assert np.array(steps).astype(int).tolist() == [
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_an_answer_without_end_token_is_wrong_and_terminates_when_its_room_is_full():
    env, level = envs.make("token-copy")
    level = level.replace(solution=jnp.full(8, 1))
    obs, state = env.reset_env(jax.random.key(0), level)
    step = jax.jit(env.step_env)
    for i in range(env.answer_length):
        obs, state, reward, terminated, _ = step(jax.random.key(0), state, jnp.int32(1), level)
        assert (reward, bool(terminated)) == (0, i == env.answer_length - 1)
    assert obs.tolist() == [*level.prompt.tolist(), *[1] * 8]


@pytest.mark.parametrize("name", ["token-countdown"])
def test_the_environment_pays_what_the_verifier_says_when_the_answer_ends(name):
    env, level = envs.make(name)
    _, state = env.reset_env(jax.random.key(0), level)
    step = jax.jit(env.step_env)
    for token in np.asarray(level.solution):
        _, state, reward, terminated, _ = step(jax.random.key(0), state, token, level)
        assert bool(terminated) == (token == END) == bool(reward)
        if terminated:
            break
    _, state = env.reset_env(jax.random.key(0), level)
    _, _, reward, terminated, _ = step(jax.random.key(0), state, jnp.int32(END), level)
    assert (reward, bool(terminated)) == (0, True)  # an empty answer ends too, and is wrong


def test_padding_ends_an_answer():
    env, level = envs.make("token-sort")
    _, state = env.reset_env(jax.random.key(0), level)
    *_, reward, terminated, _ = jax.jit(env.step_env)(
        jax.random.key(0), state, jnp.int32(PAD), level
    )
    assert (reward, bool(terminated)) == (0, True)


def test_sequences_of_seven_tokens_have_different_numbers():
    rng = np.random.default_rng(0)
    tokens = np.unique(rng.integers(0, len(VOCABULARY), (20_000, 7)), axis=0)
    assert len(np.unique(code(jnp.asarray(tokens)))) == len(tokens)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("token-copy", {"max_digits": 2}, "Rearrange.max_digits: 2 is not valid"),
        ("token-arithmetic", {"num_operands": 1}, "Arithmetic.num_operands: 1 is not valid"),
        ("token-countdown", {"answer_length": 5}, "Countdown.answer_length: 5 is not valid"),
        ("token-countdown", {"held_out": 0}, "held_out: 0 is not valid; .* from 1 to"),
        ("token-countdown", {"rooms": 1}, "environment 'token-countdown'.*takes: answer_length"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        envs.make(name, **settings)


def test_an_unknown_order_is_named():
    with pytest.raises(ValueError, match="Rearrange.order: 'shuffle' is not valid"):
        rearrange("shuffle")
