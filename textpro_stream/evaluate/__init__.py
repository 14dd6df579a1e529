"""WER, lag, endpoint and latency measurement: every number in README comes from here."""
