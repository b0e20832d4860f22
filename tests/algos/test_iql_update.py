"""One update of IQL on a dataset of three states, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from algos import iql
from purejaxrl.algorithm import Task
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.transitions import Step
from tests.algos.chain import Chain
from tests.helpers import begin

TERMINATED = np.array([False, False, False, False, True, True])
STEPS = Step(
    obs=np.array([0, 0, 1, 1, 2, 2]),
    action=np.array([0, 1, 0, 1, 0, 1]),
    reward=np.array([1.0, -2.0, 0.5, 3.0, -1.0, 2.0], np.float32),
    terminated=TERMINATED,
    truncated=np.zeros(6, bool),
    next_obs=np.array([1, 2, 2, 0, 0, 1]),
)


def test_the_losses_of_an_update_and_its_targets_are_those_of_numpy():
    """All tables differ: those of the policy, the value, both critics and both target critics."""
    draw = np.random.default_rng(0).normal
    logits, value = draw(size=(3, 2)), draw(size=(3, 1))
    critics, slow = draw(size=(2, 3, 2)), draw(size=(2, 3, 2))
    table = lambda rows: {"params": {"rows": jnp.float32(rows)}}  # noqa: E731
    hypers = iql.Hypers(
        Dataset(jax.tree.map(jnp.asarray, STEPS)),
        learning_rate=0.1, gamma=0.9, expectile=0.8, beta=2.0, target_rate=0.25,
    )  # fmt: skip
    agent = iql.make(iql.Config(batch_size=6), Chain())
    state = begin(agent, hypers, Task(None, jnp.int32(9)))
    params = iql.Params(table(logits), table(value), table(critics))
    state = state._replace(params=params, target_params=table(slow))
    batch = hypers.dataset.read(jnp.arange(6), hypers.gamma)
    after, metrics = jax.jit(agent.learn)(state, hypers, batch)

    s, a = STEPS.obs, STEPS.action
    advantage = slow[:, s, a].min(0) - value[s, 0]
    of_value = np.where(advantage < 0, 0.2, 0.8) * advantage**2
    target = STEPS.reward + np.where(TERMINATED, 0.0, 0.9) * value[STEPS.next_obs, 0]
    of_critics = (critics[:, s, a] - target) ** 2
    log_prob = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[s, a]
    of_policy = -np.exp(2.0 * advantage) * log_prob
    np.testing.assert_allclose(metrics["value_loss"], of_value.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["critic_loss"], 0.5 * of_critics.mean(1).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["policy_loss"], of_policy.mean(), rtol=1e-5)
    learned = np.asarray(after.params.critic["params"]["rows"])
    assert (learned != np.float32(critics)).all()
    moved = 0.75 * slow + 0.25 * learned
    np.testing.assert_allclose(after.target_params["params"]["rows"], moved, rtol=1e-4, atol=1e-6)
