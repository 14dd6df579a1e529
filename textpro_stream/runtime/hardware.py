"""What this machine computes with: the torch device, threads, cores, streams."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from textpro_stream.config import DeviceOptions
from textpro_stream.errors import DeviceError
from textpro_stream.runtime.device import DeviceThread, Lane
from textpro_stream.runtime.memory import trim_heap
from textpro_stream.runtime.prepare import prepare

if TYPE_CHECKING:
    import torch


def torch_device(options: DeviceOptions) -> torch.device:
    """The device that `options` name, with its threads set.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    prepare()
    import torch

    # The other half is for the event loop, the voice and whatever else runs: OpenMP's threads wait
    # for the slowest, and steps are short (docs/notes/0004-llm-step.md).
    torch.set_num_threads(options.threads or min(4, max(1, physical_cores() // 2)))
    name = options.name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise DeviceError(f"device {name!r}: give auto, cpu, cuda or cuda:N", name=name)
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "device cuda: this PyTorch sees no GPU; choose --device cpu, or see textpro doctor",
            name=name,
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0", name=name
        )
    return torch.device(name)


def physical_cores() -> int:
    """Cores this process may run on, hyperthreads of one core counted once."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if usable is None:
        return max(1, (os.cpu_count() or 2) // 2)
    cores = set()
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def device_thread(device: torch.device) -> DeviceThread:
    """The thread in which torch computes, gradients off; on a GPU, hearing has its own stream."""
    import torch

    # Nobody is heard: a microphone that is open asks for something every 20 ms.
    return DeviceThread(
        f"device {device}", torch.inference_mode, stream=lane_streams(device), idle=trim_heap
    )


def lane_streams(device: torch.device) -> Callable[[Lane], AbstractContextManager[object]]:
    """The CUDA stream of each lane: hearing does not wait for the LLM's kernels.

    Nothing to enter on a CPU. Never run on a GPU yet.
    """
    import torch

    if device.type != "cuda":
        return lambda lane: nullcontext()
    hearing, llm = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
    return lambda lane: torch.cuda.stream(hearing if lane is Lane.HEAR else llm)
