"""Ours beside two that do not stream: the same questions, weights, process and socket.

    textpro bench baseline --each 20 --report out.html

The same as `textpro bench latency --baselines`; bench/stepwise.py says what the two are.
"""

from __future__ import annotations

import argparse

from textpro_stream.bench import latency
from textpro_stream.config import Settings

add_arguments = latency.add_arguments


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure all three; the exit status."""
    args.baselines = True
    return latency.run(args, settings)
