"""The voice's own process: text in on standard input, audio and word marks out on standard output.

espeak-ng and Piper are GPL, not safe for threads, and may crash or hang: here they do so at arm's
length, and the process can be killed. It imports only what speaking needs and starts in a fraction
of a second; it ends when its input does.

Both ways messages are a header (kind, utterance, payload length) and a payload:

    SPEAK   whether a pause follows, words per minute, then the text     -> worker
    CANCEL  nothing                                                      -> worker
    READY   rate in Hz, uint32                                           <- worker, once
    FAILED  what went wrong, one line; utterance 0: the worker ends      <- worker
    AUDIO   PCM16                                                        <- worker
    WORD    sample and character at which a word begins, two uint32      <- worker
    DONE    nothing; each utterance ends with DONE or FAILED             <- worker
"""

from __future__ import annotations

import os
import queue
import signal
import struct
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO

from textpro_stream.errors import ConfigError

if TYPE_CHECKING:
    from textpro_stream.ports import Synthesizer

HEADER = struct.Struct("<cII")
WORD_MARK = struct.Struct("<II")
RATE = struct.Struct("<I")
MANNER = struct.Struct("<?H")
SPEAK, CANCEL = b"S", b"C"
READY, FAILED, AUDIO, WORD, DONE = b"R", b"F", b"A", b"W", b"D"


def open_engine(name: str, voice: str) -> Synthesizer:
    """Load `espeak` or `piper`.

    Raises:
        ConfigError: it is not installed, or has no such voice.
    """
    if name == "piper":
        from textpro_stream.speech.piper import Piper

        return Piper(voice)
    from textpro_stream.speech.espeak import Espeak

    return Espeak(voice)


class Worker:
    """Speaks one utterance after the other.

    Args:
        requests: where SPEAK and CANCEL come from.
        replies: where the rest goes.
    """

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests, self._replies = requests, replies
        self._waiting: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._cancelled: set[int] = set()

    def run(self, engine: Synthesizer) -> None:
        """Speak until the input ends, which ends the process."""
        self._send(READY, 0, RATE.pack(engine.rate_hz))
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        while True:
            utterance, payload = self._waiting.get()
            if utterance not in self._cancelled:
                self._speak(engine, utterance, payload)
            self._send(DONE, utterance)
            self._cancelled.discard(utterance)

    def fail(self, message: str, utterance: int = 0) -> None:
        """Say in one line what went wrong."""
        self._send(FAILED, utterance, " ".join(message.split()).encode())

    def _speak(self, engine: Synthesizer, utterance: int, payload: bytes) -> None:
        def audio(pcm: bytes) -> bool:
            self._send(AUDIO, utterance, pcm)
            return utterance not in self._cancelled

        def word(sample: int, character: int) -> None:
            self._send(WORD, utterance, WORD_MARK.pack(sample, character))

        try:
            pause, rate_wpm = MANNER.unpack_from(payload)
            engine.speak(payload[MANNER.size :].decode(), pause, rate_wpm, audio, word)
        except Exception as error:  # whatever a voice raises ends this text only
            self.fail(f"{type(error).__name__}: {error}", utterance)

    def _listen(self) -> None:
        while len(header := self._requests.read(HEADER.size)) == HEADER.size:
            kind, utterance, length = HEADER.unpack(header)
            payload = self._requests.read(length)
            if kind == CANCEL:
                self._cancelled.add(utterance)
            else:
                self._waiting.put((utterance, payload))
        os._exit(0)  # the speaking thread may be inside the engine, which cannot be interrupted

    def _send(self, kind: bytes, utterance: int, payload: bytes = b"") -> None:
        try:
            self._replies.write(HEADER.pack(kind, utterance, len(payload)) + payload)
            self._replies.flush()
        except BrokenPipeError:
            os._exit(0)


def main(arguments: list[str]) -> None:
    """Run the worker: engine, voice."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that we work for
    # The engines' libraries may print: what they print must not land between our messages.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker(sys.stdin.buffer, replies)
    name, voice = arguments
    try:
        engine = open_engine(name, voice)
    except ConfigError as error:
        worker.fail(str(error))
    else:
        worker.run(engine)


if __name__ == "__main__":
    main(sys.argv[1:])
