"""The candidates of an evolution in one world: their lives, their fitness, scores of levels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.algorithm import Metrics, Task, require_fit
from purejaxrl.meta.base import Insert
from purejaxrl.meta.lifetime import train_and_play
from purejaxrl.meta.metrics import masked_mean
from purejaxrl.meta.sharding import AXIS, is_sharded, num_shards, shard_index
from purejaxrl.meta.worlds import World, divide
from purejaxrl.running.devices import group_size, on_cpu
from purejaxrl.ued.buffer import Visits
from purejaxrl.ued.curriculum import Chosen, require_curriculum
from purejaxrl.ued.scores import LevelOutcome

if TYPE_CHECKING:
    from purejaxrl.meta.evolution import Config


class Lives(NamedTuple):
    """The lives of pairs in one world."""

    keys: jax.Array  # typed keys [num_pairs]; both candidates of a pair use the same one
    tasks: Task  # leaves [num_pairs, ...]
    hypers: Any  # the agents' without θ, leaves [num_pairs, ...]


class CandidateSetup(NamedTuple):
    """What candidates in one world are evaluated with."""

    config: "Config"
    world: World
    insert: Insert
    num_pairs: int
    group: int  # candidates that are vmapped

    @property
    def num_groups(self) -> int:
        """Number of groups, which are divided among the devices."""
        return 2 * self.num_pairs // self.group


def set_up(config: "Config", worlds: Sequence[World], insert: Insert) -> list[CandidateSetup]:
    """Divide the pairs of candidates among worlds.

    Raises:
        ValueError: if pairs or groups cannot be divided among the worlds.
    """
    setups = []
    for world, count in zip(worlds, divide("num_pairs", config.num_pairs, worlds), strict=True):
        group = config.group or _usual_group(2 * count)
        if 2 * count % group:
            raise ValueError(
                f"group: {group} is not valid; it must divide the {2 * count} candidates of world "
                f"{world.name!r}"
            )
        setups.append(CandidateSetup(config, world, insert, count, group))
    return setups


def require_evolvable(setup: CandidateSetup, use: str) -> None:
    """Raise a ValueError unless whole lives in a world can be compared.

    Args:
        setup: what candidates in the world are evaluated with.
        use: what compares them, such as "evolution".
    """
    require_fit("inner", setup.world.inner, use, "act", "steps_per_update")
    provided = {"returns", "best_return"}
    require_curriculum(setup.world.curriculum, use, setup.num_pairs, provided)


def _usual_group(num_candidates: int) -> int:
    """Return 2 on a CPU; otherwise the largest divisor up to one device's share of candidates."""
    return 2 if on_cpu() else group_size(num_candidates, -(-num_candidates // jax.device_count()))


def evaluate_pairs(
    setup: CandidateSetup, candidates: Any, lives: Lives
) -> tuple[jax.Array, jax.Array]:
    """Train and evaluate the candidates of one world.

    Args:
        setup: what candidates are evaluated with.
        candidates: leaves `[2, num_pairs, ...]`, the two of a pair on the first axis.
        lives: the lives of the pairs.

    Returns:
        Fitness, float32 `[2, num_pairs]`, and the returns of the evaluation episodes, float32
        `[2, num_pairs, num_episodes]`, NaN where an episode was cut.
    """
    num_pairs = setup.num_pairs
    order = jnp.argsort(lives.tasks.horizon)
    pair = jnp.repeat(order, 2)  # both of a pair side by side, the shortest lives first
    which = jnp.stack([order, order + num_pairs], axis=1).ravel()
    at = lambda tree, index: jax.tree.map(lambda x: x[index], tree)  # noqa: E731
    flat = jax.tree.map(lambda x: x.reshape(2 * num_pairs, *x.shape[2:]), candidates)
    found = evaluate_sorted(setup, at(flat, which), at(lives, pair))

    def unsort(x: jax.Array) -> jax.Array:
        return jnp.zeros_like(x).at[which].set(x).reshape(2, num_pairs, *x.shape[1:])

    return jax.tree.map(unsort, found)


def evaluate_sorted(
    setup: CandidateSetup, candidates: Any, lives: Lives
) -> tuple[jax.Array, jax.Array]:
    """Evaluate candidates that are sorted by horizon, leaves `[2 * num_pairs, ...]`.

    Devices take groups in turn, in the order 0, 1, 1, 0, 0, 1, …, so that all devices get short
    lives and long ones. If the groups cannot be divided among them, each evaluates all groups.
    """
    config, world, num_groups = setup.config, setup.world, setup.num_groups
    group = setup.group
    divided = is_sharded() and num_groups % num_shards() == 0
    turns = np.arange(num_groups).reshape(-1, num_shards() if divided else 1)
    turns[1::2] = turns[1::2, ::-1]
    mine = jnp.asarray(turns)[:, shard_index() if divided else 0]
    grouped = lambda x: x.reshape(num_groups, group, *x.shape[1:])[mine]  # noqa: E731

    def evaluate(candidates: tuple[Any, Lives]) -> tuple[jax.Array, jax.Array]:
        thetas, lives = candidates
        agents = jax.vmap(setup.insert)(thetas, lives.hypers)
        played = train_and_play(
            world.inner, world.env, lives.keys, agents, lives.tasks,
            num_episodes=config.num_episodes, max_steps=config.max_steps,
        )  # fmt: skip
        return played.ret.mean(-1), jnp.where(played.finished, played.ret, jnp.nan)

    found = jax.lax.map(evaluate, jax.tree.map(grouped, (candidates, lives)))
    if divided:
        found = jax.lax.all_gather(found, AXIS, axis=1, tiled=True)

    def restore_order(x: jax.Array) -> jax.Array:
        """Undo the order of turns: the permutation is its own inverse."""
        x = x.reshape(num_groups, group, *x.shape[2:])
        return x[turns.ravel()].reshape(num_groups * group, *x.shape[2:])

    return jax.tree.map(restore_order, found)


def score_levels(
    setup: CandidateSetup, key: jax.Array, chosen: Chosen, returns: jax.Array
) -> Visits:
    """Score the level of each pair by the mean of its candidates' scores.

    A candidate that diverged or finished no episode has no score.

    Args:
        setup: what candidates are evaluated with.
        key: typed key.
        chosen: the levels, leaves `[num_pairs, ...]`.
        returns: float32 `[2, num_pairs, num_episodes]`; NaN where an episode was cut.
    """
    pairs = returns.shape[:2]
    best = jnp.fmax(chosen.best_return, jnp.nanmax(returns, axis=(0, 2)))
    outcomes = LevelOutcome(returns, jnp.broadcast_to(best, pairs))
    scores = jax.vmap(jax.vmap(setup.world.curriculum.score))(
        jax.random.split(key, pairs), outcomes
    )
    known = jnp.isfinite(scores) & jnp.isfinite(returns).any(-1)
    mean = jax.vmap(masked_mean, in_axes=1)(scores, known)
    return Visits(chosen.slot, chosen.level, mean, best, jnp.ones(pairs[1], bool))


def generation_metrics(setup: CandidateSetup, fitness: jax.Array, horizon: jax.Array) -> Metrics:
    """Summarise a generation from fitness `[2, num_pairs]` and horizons `[num_pairs]`.

    `env_steps` is wrong where all lives of a generation make 2**31 environment steps or more.
    """
    group, sound = setup.group, jnp.isfinite(fitness)
    inner, updates = setup.world.inner, 2 * horizon.sum()
    warmup_steps = 2 * setup.num_pairs * inner.warmup_steps
    longest = jnp.sort(jnp.repeat(horizon, 2)).reshape(-1, group)[:, -1]
    return {
        "return": masked_mean(fitness, sound),
        "episodes": jnp.int32(2 * setup.num_pairs * setup.config.num_episodes),
        "best": jnp.nanmax(jnp.where(sound, fitness, jnp.nan)),
        "unsound": (~sound).sum(),
        "masked": 1 - updates / (group * longest.sum()),
        "env_steps": (updates * inner.steps_per_update + warmup_steps).astype(jnp.int32),
    }
