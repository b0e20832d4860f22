"""Every curriculum for students by its name, with settings for the command line.

A `Method` makes a curriculum for any kind of levels (`purejaxrl/ued/levels.py`) and any agent:

    method = METHODS["sfl"]()
    curriculum = method.make(levels, agent)
    algorithm = student.make(agent, levels.env, curriculum, levels.optimal_return)
    hypers = method.hypers(ppo.Hypers())
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from algos import accel, clutr, frontier, paired, plr, ppo, ppo_rnn, regret_teacher, sfl
from purejaxrl.algorithm import Algorithm
from purejaxrl.ued import student
from purejaxrl.ued.buffer import in_proportion
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.curriculum import Curriculum, Replay, replay, uniform
from purejaxrl.ued.levels import Levels
from purejaxrl.ued.scores import SCORES
from purejaxrl.validation import require, require_choice, require_count

OF_VISITS = tuple(sorted(SCORES.keys() - {"regret"}))
"""Scores of levels that a student trained on or explored."""
OF_SEARCHES = ("learnability", "true_regret")
"""Scores of levels that a student played in a search."""
STUDENT_CONFIG = ppo_rnn.Config(
    num_envs=32, num_steps=256, num_epochs=2, num_minibatches=4, activation="relu"
)
"""A student's static settings on mazes."""
STUDENT = ppo.Hypers(
    learning_rate=3e-3, gamma=0.995, gae_lambda=0.98, entropy_coef=1e-2, value_clip_eps=0.2
)
"""A student's hyperparameters, tuned with domain randomisation (docs/environment_design.md).
JaxUED's learning rate is 1e-4, for fifty times as many steps."""
TEACHER = ppo.Hypers(learning_rate=1e-2, gamma=0.995, gae_lambda=0.98, entropy_coef=0.01)
"""Hyperparameters of a teacher that builds levels. They are JaxUED's, but with a larger entropy
bonus, and a hundred times the learning rate for a fiftieth of the steps (docs/paired.md)."""
LATENT_TEACHER = TEACHER.replace(learning_rate=1e-3, entropy_coef=0.0)
"""Hyperparameters of a teacher whose action is a latent. It has no entropy bonus: entropy is a sum
over all dimensions, so a bonus would push latents beyond those of random levels."""


@dataclass(frozen=True)
class DomainRandomization:
    """Domain randomisation has no settings."""

    title = "Domain randomisation"

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum."""
        return uniform(levels.sample)

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's."""
        return student.Hypers(agent)


@dataclass(frozen=True)
class Plr:
    """Settings of robust PLR."""

    score: str = "pvl"
    """Score by which levels are kept and replayed: see purejaxrl/ued/scores.py."""
    capacity: int = 4000
    """Slots of the buffer, at least as many as the student has environments."""

    def __post_init__(self):
        require_choice(self, "score", OF_VISITS)
        require_count(self, "capacity")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"Robust PLR ({self.score})"

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum."""
        return plr.curriculum(levels.sample, SCORES[self.score], self.capacity)

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's."""
        return plr.hypers(agent)


@dataclass(frozen=True)
class Mixed(Plr):
    """Settings of PLR whose student learns on new levels too, drawn in proportion to the score."""

    score: str = "true_regret"
    """Score by which levels are kept and replayed: see purejaxrl/ued/scores.py."""

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"PLR among new levels ({self.score})"

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum. Levels with scores <= 0 are replayed only for their staleness."""
        return replay(levels.sample, SCORES[self.score], self.capacity, in_proportion)

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's.

        With priorities by rank, as published, nearly all replays would be of the few levels of the
        highest regret, which the student hardly ever solves.
        """
        return student.Hypers(agent, Replay(temperature=1.0, staleness=0.1, min_draws=4.0))


@dataclass(frozen=True)
class Accel(Plr):
    """Settings of ACCEL."""

    num_edits: int = 5
    """Edits of a level after its replay."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "num_edits")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"ACCEL ({self.score}), {self.num_edits} edits at a time"

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum."""
        mutate = partial(levels.mutate, num_edits=self.num_edits)
        return accel.curriculum(levels.sample, mutate, SCORES[self.score], self.capacity)

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's."""
        return accel.hypers(agent)


@dataclass(frozen=True)
class Sfl(sfl.Config):
    """Settings of sampling for learnability."""

    score: str = "learnability"
    """Score by which levels are searched for: learnability, or true_regret."""

    def __post_init__(self):
        super().__post_init__()
        require_choice(self, "score", OF_SEARCHES)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"SFL ({self.score})"

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum."""
        return sfl.curriculum(self, levels.sample, SCORES[self.score])

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's."""
        return sfl.hypers(agent)


@dataclass(frozen=True)
class FrontierReplay:
    """Settings of frontier replay."""

    num_kept: int = 128
    """Levels that are kept, at least as many as the student has environments."""

    title = "Frontier replay"

    def __post_init__(self):
        require_count(self, "num_kept")

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum."""
        return frontier.curriculum(levels.sample, num_kept=self.num_kept)

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's."""
        return frontier.hypers(agent)


@dataclass(frozen=True)
class Teacher:
    """Settings of a teacher that learns."""

    hidden: tuple[int, ...] = (128, 128)
    """Widths of the teacher's layers."""
    num_epochs: int = 5
    """Passes of the teacher over its experience."""

    defaults = TEACHER

    def builder(self, levels: Levels) -> Builder:
        """Return where the teacher makes levels: it builds them step by step."""
        return levels.builder

    def teacher(self, builder: Builder, agent: Algorithm) -> Algorithm:
        """Make a teacher of as many levels as the student has environments."""
        config = ppo.Config(
            num_envs=agent.num_envs, num_steps=builder.num_steps, num_epochs=self.num_epochs,
            num_minibatches=1, hidden=self.hidden, activation="relu",
        )  # fmt: skip
        return ppo.make(config, builder)


@dataclass(frozen=True)
class Paired(Teacher):
    """Settings of PAIRED."""

    regret: str = "mean-max"
    """The regret that is the teacher's reward: mean-max, mean-mean or flexible."""

    method = "PAIRED"

    def __post_init__(self):
        require_choice(self, "regret", tuple(paired.REGRETS))

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"{self.method} ({self.regret})"

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum; the antagonist is a second agent like the student."""
        builder = self.builder(levels)
        teacher, regret = self.teacher(builder, agent), paired.REGRETS[self.regret]
        return paired.curriculum(teacher, agent, levels.env, builder, regret)

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's."""
        return paired.hypers(agent, self.defaults)


@dataclass(frozen=True)
class PairedRegret(Teacher):
    """Settings of a teacher whose reward is true regret."""

    title = "PAIRED by true regret"
    defaults = TEACHER.replace(learning_rate=1e-4)

    def make(self, levels: Levels, agent: Algorithm) -> Curriculum:
        """Make the curriculum."""
        builder = self.builder(levels)
        return regret_teacher.curriculum(self.teacher(builder, agent), builder)

    def hypers(self, agent: Any) -> student.Hypers:
        """Return the default hyperparameters around the agent's."""
        return regret_teacher.hypers(agent, self.defaults)


@dataclass(frozen=True)
class Latent:
    """Makes a teacher choose the latents of levels, which an autoencoder decodes."""

    autoencoder: str = ""
    """Folder of an autoencoder of these levels (experiments/maze_autoencoder.py)."""

    defaults = LATENT_TEACHER

    def builder(self, levels: Levels) -> Builder:
        """Return where the teacher chooses latents.

        Raises:
            ValueError: if there is no autoencoder, or it is of other levels.
        """
        require(bool(self.autoencoder), self, "autoencoder", "the folder of an autoencoder")
        config, model = clutr.load(self.autoencoder)
        latents = clutr.Latents(config, model, levels.tokens.read, levels.tokens.allowed())
        return Builder(latents)


@dataclass(frozen=True)
class Clutr(Latent, Paired):
    """Settings of CLUTR."""

    method = "CLUTR"


@dataclass(frozen=True)
class ClutrRegret(Latent, PairedRegret):
    """Settings of CLUTR with a teacher whose reward is true regret."""

    title = "CLUTR by true regret"


METHODS = {
    "dr": DomainRandomization,
    "plr": Plr,
    "accel": Accel,
    "sfl": Sfl,
    "sfl_regret": partial(Sfl, score="true_regret"),
    "plr_regret": partial(Plr, score="true_regret"),
    "mixed_regret": Mixed,
    "frontier": FrontierReplay,
    "paired": Paired,
    "paired_regret": PairedRegret,
    "clutr": Clutr,
    "clutr_regret": ClutrRegret,
}
"""The methods by their names on command lines."""
