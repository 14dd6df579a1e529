"""`textpro train`: the objectives of `train/`, each a subcommand with its own flags."""

from __future__ import annotations

import argparse

import textpro_stream.train as package
from textpro_stream.cli.modules import add_modules
from textpro_stream.config import Settings

TAKES_SETTINGS = False  # each objective does, after its own name

EXAMPLES = """\
examples:
  textpro train encoder --manifest speech.jsonl --out runs/encoder
  textpro stream --set whisper.adapter=runs/encoder/encoder.safetensors question.wav
  textpro train end-of-turn --manifest pauses.jsonl --out runs/end-of-turn
  textpro train tone --manifest acted.jsonl --out runs/tone
  textpro train slm --manifest acted.jsonl --out runs/slm

A run that was stopped goes on where it was: give the same command again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each objective."""
    add_modules(parser, package, "OBJECTIVE")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Train; give the exit status."""
    status: int = args.module_run(args, settings)
    return status
