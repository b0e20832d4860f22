"""Traces of what a run does, for TensorBoard or Perfetto."""

from pathlib import Path

import jax

from purejaxrl.running.logs import say


class Tracer:
    """Traces a few chunks of a run, and leaves out the first, which compiles."""

    def __init__(self, folder: Path, num_chunks: int):
        """Trace `num_chunks` chunks into a folder; 0 traces none."""
        self.folder, self.num_chunks, self.seen = folder, num_chunks, 0
        self.tracing = False

    def chunk_begins(self) -> None:
        """Count a chunk; start or stop the trace."""
        if self.seen == 1 and self.num_chunks:
            jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
            self.tracing = True
        elif self.seen == 1 + self.num_chunks:
            self.close()
        self.seen += 1

    def close(self) -> None:
        """Stop the trace, if it is running, and say where it is."""
        if self.tracing:
            jax.profiler.stop_trace()
            self.tracing = False
            say(f"the trace is in {self.folder}")
