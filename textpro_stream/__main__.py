"""`python -m textpro_stream`: the same as `textpro`."""

from __future__ import annotations

import sys

from textpro_stream.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
