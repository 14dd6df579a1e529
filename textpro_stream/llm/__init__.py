"""Fusion (words + prosody -> rows), KV-cache session, sampling, dialogue memory."""
