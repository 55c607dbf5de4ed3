"""The program of a worker process: parts from stdin, answers to stdout, one JSON object a line.

It ends when stdin does, so that no worker outlives its driver, not even one that is killed.
"""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import sys
from threading import Thread
from typing import Any

import msgspec

from tip_adapter.distributed.manifests import Job
from tip_adapter.distributed.parts import PartRunner
from tip_adapter.errors import TipAdapterError


def main() -> None:
    """Load the job of the first line, then answer each further line until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    answers = io.FileIO(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    Thread(target=_receive, args=(requests,), daemon=True).start()

    def answer(**record: Any) -> None:
        answers.write(json.dumps(record).encode() + b"\n")  # whole: shorter than a pipe's buffer

    try:
        runner = PartRunner.load(msgspec.convert(requests.get(), Job))
        answer(ready=True)
        while True:
            request = requests.get()
            excluded = set(request["excluded"])
            if "stop" in request:
                rows = runner.plan.rows(request["part"]).slice(request["start"], request["stop"] - request["start"])
                for _ in runner.labels(rows, {row - request["start"] for row in excluded}):
                    pass
                answer(passed=True)
            else:
                manifest = runner.run(request["part"], lambda rows: answer(rows=rows), excluded)
                answer(done=msgspec.to_builtins(manifest))
    except TipAdapterError as error:
        answer(code=error.code, error=str(error))
    except Exception as error:
        answer(code="error", error=f"{type(error).__name__}: {error}")
        raise


def _receive(requests: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(1)


if __name__ == "__main__":
    main()
