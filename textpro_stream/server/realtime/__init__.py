"""`GET /v1/realtime`: the OpenAI Realtime protocol, GA shape, over one conversation.

`core.py` decides without any I/O; `route.py` moves its decisions between socket and conversation.
"""
