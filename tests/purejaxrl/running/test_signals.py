import subprocess
import sys

import pytest

from purejaxrl.running import signals


@pytest.mark.parametrize(
    ("raised", "said"), [("KeyboardInterrupt", "interrupted"), ("ValueError", "Traceback")]
)
def test_ctrl_c_while_importing_ends_without_a_traceback(raised, said):
    script = (
        f"import runpy; runpy.run_path({signals.__file__!r})['interrupt_quietly']()\nraise {raised}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.startswith(said)
    assert ("Traceback" in done.stderr) == (raised == "ValueError")
    assert done.returncode != 0
