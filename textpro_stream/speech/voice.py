"""Reply text -> audio, while the reply is still being written.

The synthesiser lives in a worker process. One that crashes or hangs is replaced, and the clause in
hand goes on from where it was: nobody above notices more than a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from textpro_stream.audio.pcm import decode_pcm16
from textpro_stream.config import RATE_WPM, SpeechOptions
from textpro_stream.contracts import SpokenChunk
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.speech import worker
from textpro_stream.speech.align import Aligner
from textpro_stream.speech.process import Message, Process, WorkerGone
from textpro_stream.speech.spoken import spoken_form

log = logging.getLogger(__name__)

# How long a worker may say nothing while it has work, before it is taken for dead. espeak-ng needs
# some ms for a clause; Piper works on a whole sentence at a time.
HANGS_S = {"espeak": 2.0, "piper": 20.0}
TRIES = 2  # of one clause: a worker that dies of a text will die of it again


async def open_voice(options: SpeechOptions) -> Voice:
    """Start the worker process and load the voice.

    Raises:
        ConfigError: the engine is not installed or has no such voice; one line with the fix.
        StageError: the process does not start.
    """
    voice = Voice(options)
    await voice.ready()
    return voice


class Voice:
    """One voice, shared by conversations: clauses of several replies take turns."""

    def __init__(self, options: SpeechOptions) -> None:
        if options.engine == "none":
            raise ConfigError("speech.engine is none: there is no voice to open; choose espeak")
        self._arguments = (options.engine, options.voice)
        self._english = Path(options.voice).name.lower().startswith("en")
        self._rate_wpm = options.rate_wpm
        self._hangs_s = HANGS_S[options.engine]
        self._process: Process | None = None
        self._starting = asyncio.Lock()
        self._watching: set[asyncio.Task[None]] = set()
        self._closed = False
        self.rate_hz = 0

    @property
    def pid(self) -> int | None:
        """Of the worker process, while there is one."""
        return None if self._process is None or self._process.gone else self._process.pid

    async def speak(
        self, text: str, *, start: int = 0, text_start: int = 0, speed: float = 1.0
    ) -> AsyncIterator[SpokenChunk]:
        """Say a clause, in chunks of at most 100 ms. Closing the iterator stops at once.

        Args:
            text: as the LLM wrote it; markdown and emoji are not said.
            start: samples of this reply that were spoken before it.
            text_start: characters of this reply before it.
            speed: 1 is `rate_wpm`; held within what the engine can do.

        Raises:
            StageError: the worker failed twice over this text, or cannot be started again.
        """
        form = spoken_form(text, english=self._english)
        if not any(character.isalnum() for character in form.text):
            return
        # A clause cut between two words sounds finished unless a comma says that more will come.
        pause = not form.text.rstrip()[-1].isalnum()
        said = form.text if pause else form.text.rstrip() + ","
        given = 0  # samples, over all tries
        for _ in range(TRIES):
            process = await self.ready()
            rate_wpm = round(RATE_WPM.clamp(self._rate_wpm * speed))
            utterance = process.speak(said, pause, rate_wpm)
            aligner = Aligner(form, self.rate_hz, start, text_start)
            try:
                over = False
                while not over:
                    kind, payload = await self._message(process, utterance)
                    over = kind == worker.DONE
                    for chunk in _spoken(kind, payload, aligner):
                        # After a restart, what was given out before is made again and dropped.
                        made = chunk.start - start
                        if made + len(chunk.samples) > given:
                            new = chunk.samples[given - made :]
                            yield replace(chunk, samples=new, start=start + given)
                            given += len(new)
                return
            except WorkerGone:
                log.warning("the voice's process ended while speaking; starting another")
            finally:
                if process.cancel(utterance):
                    self._watch(process)
        raise StageError("the voice failed twice over the same words; the reply goes on in text")

    async def ready(self) -> Process:
        """A running worker, started if there is none.

        Raises:
            ConfigError: see `open_voice`.
            StageError: it does not start, or the voice was closed.
        """
        async with self._starting:
            if self._closed:
                raise StageError("the voice was closed")
            if self._process is None or self._process.gone:
                if self._process is not None:
                    await self._process.end()
                self._process = await Process.start(self._arguments)
                self.rate_hz = self._process.rate_hz
            return self._process

    async def close(self) -> None:
        """End the worker. Whoever is still listening gets a `StageError`."""
        self._closed = True
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        async with self._starting:
            if self._process is not None:
                await self._process.end()

    async def _message(self, process: Process, utterance: int) -> Message:
        """The next message, from a worker that is alive."""
        while True:
            heard = process.n_messages
            try:
                async with asyncio.timeout(self._hangs_s):
                    return await process.next_message(utterance)
            except TimeoutError:
                if process.n_messages == heard:  # else it is busy with another's clause
                    await process.end()
                    raise WorkerGone from None

    def _watch(self, process: Process) -> None:
        """Replace a worker that does not let go of what was cancelled, before anyone needs it."""
        task = asyncio.create_task(self._replace_if_stuck(process), name="voice watch")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _replace_if_stuck(self, process: Process) -> None:
        try:
            async with asyncio.timeout(self._hangs_s):
                await process.quiet()
        except TimeoutError:
            log.warning("the voice's process hangs; starting another")
            await process.end()
            await self.ready()


def _spoken(kind: bytes, payload: bytes, aligner: Aligner) -> list[SpokenChunk]:
    match kind:
        case worker.AUDIO:
            aligner.audio(decode_pcm16(payload))
            return []
        case worker.WORD:
            return aligner.word(*worker.WORD_MARK.unpack(payload))
        case worker.DONE:
            return aligner.finish()
        case _:
            raise StageError(f"the voice failed ({payload.decode()}); the reply goes on in text")
