"""Datasets as files: a NumPy archive of the steps, and a card that says where they come from."""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from purejaxrl.identity import fingerprint
from purejaxrl.parts.dataset import Dataset, Episodes
from purejaxrl.parts.transitions import Step

VERSION = 1

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Quantiles of the returns that a card lists."""

UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise on damaged files."""


@dataclasses.dataclass(frozen=True)
class Card:
    """Where a dataset comes from, and how good it is."""

    env: str
    """The environment's name."""
    policy: str
    """Which policy acted, in words."""
    random_return: float
    """Mean return of random actions: a normalised score of 0."""
    expert_return: float
    """Mean return of the expert: a normalised score of 100."""
    env_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the environment was made with, such as Brax's backend."""
    num_steps: int = 0
    num_episodes: int = 0
    return_quantiles: tuple[float, ...] = ()
    """Least, quartiles and greatest of the episodes' returns."""
    quality: float = float("nan")
    """TQ (Schweighofer et al. 2022): mean return, 0 for random actions and 1 for the expert."""
    coverage: float = float("nan")
    """SACo (Schweighofer et al. 2022): different pairs of state and action, as a multiple of those
    that the expert saw while it learned."""
    fingerprint: str = ""
    """Hash of the steps."""

    def __post_init__(self):
        if not self.expert_return > self.random_return:
            raise ValueError(
                f"expert_return: {self.expert_return} is not valid; it must be greater than "
                f"random_return, {self.random_return}, or no score can be normalised"
            )

    def score(self, ret: Any) -> Any:
        """Normalise returns: 0 for random actions, 100 for the expert."""
        return 100 * (ret - self.random_return) / (self.expert_return - self.random_return)


def count_pairs(steps: Step) -> int:
    """Count the different pairs of state and action."""
    columns = [*_leaves(steps.obs), steps.action]
    flat = [np.asarray(x).reshape(len(steps.reward), -1).astype(np.float64) for x in columns]
    return len(np.unique(np.concatenate(flat, axis=1), axis=0))


def describe(dataset: Dataset, card: Card, num_reference_pairs: int | None = None) -> Card:
    """Fill in what a card says about the steps.

    Args:
        dataset: the steps.
        card: what is known apart from the steps.
        num_reference_pairs: different pairs of state and action that the expert saw while it
            learned; without it, the card has no coverage.
    """
    episodes = Episodes.of(dataset)
    whole = episodes.ret[_is_whole(dataset, episodes)]
    returns = whole if len(whole) else episodes.ret
    span = card.expert_return - card.random_return
    coverage = float("nan")
    if num_reference_pairs:
        coverage = count_pairs(dataset.steps) / num_reference_pairs
    return dataclasses.replace(
        card,
        num_steps=dataset.num_steps,
        num_episodes=len(episodes.ret),
        return_quantiles=tuple(float(q) for q in np.quantile(returns, QUANTILES)),
        quality=float((returns.mean() - card.random_return) / span),
        coverage=coverage,
        fingerprint=_fingerprint(dataset.steps),
    )


def save_dataset(path: Path | str, dataset: Dataset, card: Card) -> None:
    """Save a dataset with its card.

    Args:
        path: the file, `.npz`.
        dataset: its steps are saved, and not how likely each is drawn.
        card: what `describe` returned for this dataset; with another card, it cannot be loaded.

    Raises:
        ValueError: if the steps are not valid.
    """
    check_steps(dataset.steps, f"dataset: cannot save {path}")
    arrays = {name: np.asarray(x) for name, x in _named(dataset.steps)}
    about = json.dumps({"version": VERSION, "card": dataclasses.asdict(card)})
    with Path(path).open("wb") as file:
        np.savez_compressed(file, about=np.array(about), **arrays)


def load_card(path: Path | str) -> Card:
    """Load the card of a dataset, and none of its steps.

    Raises:
        ValueError: if the file is missing, damaged, or of another version.
    """
    path = Path(path).expanduser()
    what = f"dataset {path}"
    if not path.is_file():
        raise ValueError(f"{what}: there is no such file; experiments/collect_dataset.py makes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
        if about["version"] != VERSION:
            raise ValueError(f"it has version {about['version']!r}, not {VERSION}")
        return Card(**about["card"])
    except UNREADABLE as error:
        raise ValueError(f"{what}: is damaged, or no dataset: {error}") from error


def load_dataset(path: Path | str, env: str | None = None) -> tuple[Dataset, Card]:
    """Load a dataset and its card.

    Args:
        path: what `save_dataset` wrote.
        env: the environment that it must come from; None accepts any.

    Raises:
        ValueError: if the file is missing, damaged, of another version or environment, or its steps
            are not valid.
    """
    path = Path(path).expanduser()
    what, card = f"dataset {path}", load_card(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "about"}
    except UNREADABLE as error:
        raise ValueError(f"{what}: is damaged, or no dataset: {error}") from error
    if env not in (None, card.env):
        raise ValueError(f"{what}: was recorded in {card.env!r}, not in {env!r}")
    steps = _steps_of(arrays, what)
    check_steps(steps, what)
    if _fingerprint(steps) != card.fingerprint:
        raise ValueError(f"{what}: its steps are not those that its card describes")
    return Dataset(_on_device(steps)), card


def check_steps(steps: Step, what: str) -> None:
    """Raise a ValueError unless steps can be learned from.

    There must be some. Rewards and flags are `[num_steps]`, and flags bool; actions are integers
    `[num_steps]`, or floats `[num_steps, size]` in [-1, 1]; `next_obs` is like `obs`. All are
    finite. The last step must end an episode. Every entry of vector observations must vary,
    because it is divided by its standard deviation.

    Args:
        steps: leaves `[num_steps, ...]`.
        what: the beginning of the error message.
    """
    if len(steps.reward) == 0:
        raise ValueError(f"{what}: holds no steps; it must hold at least one")
    _check_shapes(steps, what)
    for name, array in _named(steps):
        bad = ~np.isfinite(np.asarray(array, np.float64))
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(f"{what}: {name} is not finite at {at}")
    action = np.asarray(steps.action)
    if np.issubdtype(action.dtype, np.floating) and (np.abs(action) > 1).any():
        at = int(np.argwhere(np.abs(action) > 1)[0, 0])
        raise ValueError(f"{what}: the action of step {at}, {action[at]}, is not in [-1, 1]")
    if not (steps.terminated[-1] or steps.truncated[-1]):
        raise ValueError(f"{what}: its last step must be terminated or truncated")
    for leaf in _leaves(steps.obs):
        obs = np.asarray(leaf)
        if np.issubdtype(obs.dtype, np.floating) and obs.ndim == 2:
            constant = np.flatnonzero(obs.min(0) == obs.max(0))
            if len(constant):
                raise ValueError(
                    f"{what}: entry {constant[0]} of the observations is {obs[0, constant[0]]} at "
                    "every step; it must vary, or be left out"
                )


def _check_shapes(steps: Step, what: str) -> None:
    """Raise a ValueError where a wrong shape or dtype would broadcast without an error."""
    count, action = len(steps.reward), np.asarray(steps.action)
    size = (action.shape[-1] if action.ndim > 1 else 1,)
    own = size if np.issubdtype(action.dtype, np.floating) else ()
    shapes = {"reward": (), "terminated": (), "truncated": (), "action": own}
    for name, shape in shapes.items():
        found, valid = np.shape(getattr(steps, name)), (count, *shape)
        if found != valid:
            raise ValueError(f"{what}: {name} of shape {found} is not valid; it must be {valid}")
    for name in ("terminated", "truncated"):
        dtype = np.asarray(getattr(steps, name)).dtype
        if dtype.kind != "b":
            raise ValueError(f"{what}: {name} of dtype {dtype} is not valid; it must be bool")
    obs, after = (
        [(np.shape(x), np.asarray(x).dtype) for x in _leaves(each)]
        for each in (steps.obs, steps.next_obs)
    )
    if obs != after or any(shape[:1] != (count,) for shape, _ in obs):
        raise ValueError(f"{what}: next_obs, {after}, must be like obs, {obs}, with {count} rows")


def _fingerprint(steps: Step) -> str:
    """Hash steps; observations of several arrays as a plain tuple, which is how they are loaded."""
    plain = lambda x: tuple(x) if isinstance(x, tuple) else x  # noqa: E731
    return fingerprint(Step(*map(plain, steps)))


def _is_whole(dataset: Dataset, episodes: Episodes) -> np.ndarray:
    """Tell which episodes the end of the recording did not cut, bool `[num_episodes]`.

    These are the episodes that terminated, and those that are as long as the longest one, because
    the time limit truncated them.
    """
    terminated = np.asarray(dataset.steps.terminated)[episodes.end - 1]
    return terminated | (episodes.length == episodes.length.max())


def _leaves(obs: Any) -> list[Any]:
    return list(obs) if isinstance(obs, tuple) else [obs]


def _named(steps: Step) -> list[tuple[str, Any]]:
    """Name the arrays of steps: `reward`; `obs`, or `obs/0` and `obs/1` where they are several."""
    found = []
    for field, value in zip(Step._fields, steps, strict=True):
        if isinstance(value, tuple):
            found += [(f"{field}/{i}", x) for i, x in enumerate(value)]
        else:
            found.append((field, value))
    return found


def _steps_of(arrays: dict[str, np.ndarray], what: str) -> Step:
    """Put named arrays back together.

    Raises:
        ValueError: if one is missing or of another length.
    """
    fields = {}
    for field in Step._fields:
        parts = [name for name in arrays if name.startswith(f"{field}/")]
        parts.sort(key=lambda name: int(name.rpartition("/")[2]))
        if field not in arrays and not parts:
            raise ValueError(f"{what}: has no array {field!r}")
        fields[field] = tuple(arrays[p] for p in parts) if parts else arrays[field]
    steps = Step(**fields)
    lengths = {name: len(x) for name, x in _named(steps)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what}: its arrays have different lengths, {lengths}")
    return steps


def _on_device(steps: Step) -> Step:
    put = lambda x: tuple(map(jnp.asarray, x)) if isinstance(x, tuple) else jnp.asarray(x)  # noqa: E731
    return Step(*map(put, steps))
