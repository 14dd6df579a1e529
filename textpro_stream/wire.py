"""Events <-> JSON lines, pure."""
