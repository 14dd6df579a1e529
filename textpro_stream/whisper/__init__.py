"""WhisperPro: chunked encoder, decoder loop with commit rule, tokens and their states."""
