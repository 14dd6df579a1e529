"""Latency over the wire: questions, baselines, many sessions, endurance, comparison."""
