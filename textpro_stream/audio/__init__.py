"""Audio in and out: sources, sinks, resampling, incremental log-mel. Knows nothing of words."""
