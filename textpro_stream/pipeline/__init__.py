"""The asyncio engine: wires stages, owns tasks, turns results into events, traces."""
