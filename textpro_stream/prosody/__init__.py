"""Token states, pitch and energy -> sliding-window prosody. Knows nothing of the LLM."""
