"""A language model behind a URL: any server with an OpenAI-compatible `/v1/chat/completions`.

Ollama, the llama.cpp server, vLLM, SGLang, LM Studio. To be imported only where one is used: it
brings the HTTP client along.
"""

from textpro_stream.llm.remote.address import Address, address_of
from textpro_stream.llm.remote.dialogue import RemoteDialogue
from textpro_stream.llm.remote.engine import RemoteEngine, open_remote

__all__ = ["Address", "RemoteDialogue", "RemoteEngine", "address_of", "open_remote"]
