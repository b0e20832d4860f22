"""The Python of every page runs from top to bottom in one namespace, as a reader would copy it.

`SHORTER` replaces what makes a snippet long. A text of it that no page has any more is an error.
"""

import pytest

from tests.docs.pages import PAGES, blocks, name
from tests.helpers import mostly_slow

SHORTER: dict[str, dict[str, str]] = {
    "README.md": {"976": "2", "num_updates=250": "num_updates=2", "seeds(8)": "seeds(2)"},
    "docs/comparisons.md": {
        "num_envs=16, num_steps=64": "num_envs=2, num_steps=8",
        "(1e-3, 3e-3, 1e-2)": "(1e-3,)",
        "(0.003, 0.01, 0.03)": "(0.01,)",
        "num_agents=16": "num_agents=2",
        "num_updates=100": "num_updates=8",
    },
    "docs/disco.md": {
        "learning_rate=1e-2)": "num_trajectories=2, replay_capacity=2, hidden=(4,), num_bins=3)",
        "num_updates=350": "num_updates=1",
    },
    "docs/environments.md": {"num_updates=100": "num_updates=2"},
    "docs/lpg.md": {"num_updates=250": "num_updates=2"},
    "docs/meta.md": {
        "num_agents=16": "num_agents=2",
        "num_envs=16), env": "num_envs=2), env",
        "seeds(2)": "seeds(1)",
        "members, 500": "members, 2",
        "num_pairs=16": "num_pairs=2",
        "num_envs=16, num_steps=64": "num_envs=2, num_steps=8",
        "jnp.int32(100)": "jnp.int32(2)",
        "members, 50,": "members, 2,",
    },
    "docs/plr.md": {
        "num_envs=32, num_steps=256": "num_envs=2, num_steps=8",
        "num_updates=610": "num_updates=2",
    },
    "docs/ppo_rnn.md": {
        "num_envs=32, num_steps=64": "num_envs=4, num_steps=8",
        "seeds(10)": "seeds(1)",
        "env_params), 97": "env_params), 2",
    },
}
PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
QUICK = {"README.md", "docs/lpg.md", "docs/plr.md"}
"""Run at every change; the others are marked slow."""


def shorten(code: str, shorter: dict[str, str]) -> str:
    for text, brief in shorter.items():
        assert text in code, f"SHORTER: {text!r} is not on the page"
        code = code.replace(text, brief)
    return code


def snippets(page) -> str:
    """The page's Python, each line where it is on the page, so that tracebacks lead there."""
    lines = []
    for block in blocks(page):
        if block.language == "python":
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines)


def test_there_is_nothing_to_shorten_but_on_pages():
    assert SHORTER.keys() <= set(map(name, PYTHON))


@pytest.mark.filterwarnings("error:this run cannot be resumed")
@pytest.mark.parametrize(
    "page", mostly_slow(PYTHON, [x for x in PYTHON if name(x) in QUICK]), ids=name
)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{page.stem}.py"
    file.write_text(shorten(snippets(page), SHORTER.get(name(page), {})))
    exec(compile(file.read_text(), file, "exec"), {"__name__": page.stem})
