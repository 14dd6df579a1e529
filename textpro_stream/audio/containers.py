"""What a file is by its own marks, which bytes of it to play, and why it cannot be read.

Headers are often wrong: a recorder that was killed never wrote the length, files are joined end to
end, a download begins with zeros. A `Window` shows the decoder the bytes as they should be, so that
what is there is heard.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

UNKNOWN_LENGTH = 0x7FFF_0000  # bytes; writers into a pipe declare this much or more
CONVERT = "convert it: ffmpeg -i FILE out.wav"
HEAD = 4_096  # bytes: an MP3 frame is known by the next one's place

# Where the mark stands, the mark, what it is called. Those in READ are given to libsndfile.
MARKS: tuple[tuple[int, bytes, str], ...] = (
    (8, b"WAVE", "WAV"),
    (0, b"RF64", "WAV"),
    (0, b"RIFX", "WAV"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "OGG"),
    (0, b"ID3", "MP3"),
    (8, b"AIF", "AIFF"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"riff", "W64"),
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"#!AMR", "AMR"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA or ASF"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV\x01", "FLV"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "TTA"),
    (0, b"DSD ", "DSD"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b".RMF", "RealMedia"),
    (0, b"\x00\x00\x01\xba", "MPEG video"),
    (0, b"MThd", "MIDI notes, no sound"),
)
READ = {"WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64"}
OGG_CODECS = {b"Speex   ": "Speex", b"\x80theora": "Theora video", b"CELT    ": "CELT"}
WAV_CODECS = {  # the header's format tag; those that libsndfile reads are not here
    0x0022: "TrueSpeech",
    0x0042: "G.723.1",
    0x0045: "G.726",
    0x0055: "MP3",
    0x0064: "G.726",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0160: "WMA",
    0x0161: "WMA",
    0x0162: "WMA",
    0xA109: "Speex",
}
FLAC_START = b"fLaC\x00\x00\x00\x22"  # mark and the first block's head: audio does not look so
OGG_START = b"OggS\x00\x02"  # the page that begins a stream


class Window(io.RawIOBase):
    """Bytes of an open file, some of them replaced; reads and seeks like a file of its own.

    Args:
        descriptor: of the file; stays open when the window is closed.
        start: first byte.
        end: behind the last byte.
        patches: offset from `start`, and the bytes that are read there instead.
    """

    def __init__(
        self, descriptor: int, start: int, end: int, patches: tuple[tuple[int, bytes], ...] = ()
    ) -> None:
        self._descriptor, self._start, self._size = descriptor, start, end - start
        self._patches = patches
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte of the window."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """The next byte."""
        return self._at

    # typeshed wants any writable buffer taken; callers in `io` give a memoryview.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # see above
        """Fill a buffer as far as the window goes."""
        wanted = max(0, min(len(buffer), self._size - self._at))
        data = bytearray(os.pread(self._descriptor, wanted, self._start + self._at))
        for offset, patch in self._patches:
            for i, byte in enumerate(patch, start=offset - self._at):
                if 0 <= i < len(data):
                    data[i] = byte
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclass(frozen=True, slots=True)
class Part:
    """A recording in a file that may hold several."""

    start: int  # bytes
    end: int  # bytes, exclusive
    patches: tuple[tuple[int, bytes], ...] = ()  # as `Window` takes them
    length_mended: bool = False  # the header promised less than there is

    def window(self, descriptor: int) -> Window:
        """What the decoder shall see."""
        return Window(descriptor, self.start, self.end, self.patches)


def container(head: bytes) -> str | None:
    """The name of what begins so; None if nothing says it."""
    for offset, mark, name in MARKS:
        if head[offset : offset + len(mark)] == mark:
            return name
    return "MP3" if _frame_bytes(head) else None


def parts_of(descriptor: int, size: int) -> list[Part]:
    """The recordings in a file, in order; at least one. Reads headers, not the audio of a WAV."""
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as data:
        start = _beginning(data)
        name = container(data[start : start + HEAD]) or ("MP3" if start else None)
        if name == "WAV":
            return list(_wav_parts(data, start))
        starts = [start]
        if name == "FLAC":
            starts += _found(data, FLAC_START, start + 4)
        elif name == "OGG":
            starts += _ogg_starts(data, start)
        elif name == "MP3":
            starts += _mp3_starts(data, start)
        ends = [*starts[1:], size]
        parts = [Part(start, end) for start, end in zip(starts, ends, strict=True)]
        patches = {"AU": _au_patches, "CAF": _caf_patches}.get(name or "")
        if patches is not None:
            parts[0] = replace(parts[0], patches=tuple(patches(data, start)))
        return parts


def unreadable(head: bytes) -> str:
    """Why libsndfile did not take what begins so, and what helps, in a few words."""
    name = container(head)
    if name == "OGG":
        codec = next((c for mark, c in OGG_CODECS.items() if mark in head[28:40]), None)
        if codec:
            return f"it holds {codec}, which is not read here; {CONVERT}"
    if name == "WAV":
        tag = _wav_tag(head)
        if tag in WAV_CODECS:
            return f"it holds {WAV_CODECS[tag]}, which is not read here; {CONVERT}"
    if name in READ:
        return "its header is damaged or cut off; copy it again"
    if name is not None:
        return f"it looks like {name}; {CONVERT}"
    text = head.decode("utf-8", errors="ignore")
    if text and len(text.encode()) > len(head) - 4 and text.replace("\n", " ").isprintable():
        return "it looks like text; give WAV, FLAC, OGG or MP3"
    return "unknown format; give WAV, FLAC, OGG or MP3"


def _beginning(data: mmap.mmap) -> int:
    """Where the file begins in earnest: zeros may stand before it."""
    if data[0] or container(data[:HEAD]):
        return 0
    at = 0
    while not (block := data[at : at + 65_536]).strip(b"\0"):
        if not block:
            return 0
        at += len(block)
    at += len(block) - len(block.lstrip(b"\0"))
    return at if container(data[at : at + HEAD]) in READ else 0


def _found(data: mmap.mmap, mark: bytes, start: int) -> Iterator[int]:
    while (at := data.find(mark, start)) >= 0:
        yield at
        start = at + len(mark)


def _ogg_starts(data: mmap.mmap, start: int) -> Iterator[int]:
    """Where another chain begins. The first pages of one chain may belong to several streams."""
    end = start  # of the page that began the stream before
    for at in _found(data, OGG_START, start):
        if at > end:
            yield at
        table = data[at + 26 : at + 27 + 255]
        end = at + 27 + table[0] + sum(table[1 : 1 + table[0]]) if table else at


def _mp3_starts(data: mmap.mmap, start: int) -> Iterator[int]:
    """Where another encoder's head stands: it promises its own length, and decoders stop there."""
    heads = (at for mark in (b"Info\0\0\0", b"Xing\0\0\0") for at in _found(data, mark, start))
    for at in sorted(heads):
        for gap in (36, 21, 13):  # stereo, mono or MPEG-2 stereo, MPEG-2 mono
            frame = at - gap
            if frame - start > 200 and data[frame] == 0xFF and data[frame + 1] & 0xE0 == 0xE0:
                yield frame
                break


def _frame_bytes(head: bytes) -> int:
    """Length of the MP3 frame that begins here, if another follows it (or the data end); else 0."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer III
        return 0
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate == 3 or bitrate in (0, 15):
        return 0
    halving = {3: 0, 2: 1, 0: 2}[version]
    kbps = (_KBPS if version == 3 else _KBPS_2)[bitrate]
    rate_hz = (44_100, 48_000, 32_000)[rate] >> halving
    length = (144 if version == 3 else 72) * kbps * 1000 // rate_hz + (head[2] >> 1 & 1)
    after = head[length : length + 2]
    follows = after[:1] == b"\xff" and after[1:] in (b"", head[1:2])
    return length if follows or not after else 0


_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)


def _wav_tag(head: bytes) -> int | None:
    at = head.find(b"fmt ")
    return int.from_bytes(head[at + 8 : at + 10], "little") if 0 < at <= len(head) - 10 else None


def is_chunk(head: bytes, left: int) -> bool:
    """Eight bytes that look like the head of a RIFF chunk which fits into what is left."""
    name, length = head[:4], int.from_bytes(head[4:8], "little")
    return len(head) == 8 and name.isascii() and name.decode().isprintable() and length <= left - 8


def _wav_parts(data: mmap.mmap, start: int) -> Iterator[Part]:
    size, order = len(data), ">" if data[start : start + 4] == b"RIFX" else "<"
    long_at = None  # where an RF64 keeps the true length
    bytes_per_s = 32_000
    at = start + 12
    while at + 8 <= size:
        name, (length,) = data[at : at + 4], struct.unpack(f"{order}I", data[at + 4 : at + 8])
        body = at + 8
        if name == b"ds64":
            long_at = body + 8
        elif name == b"fmt " and body + 12 <= size:
            (bytes_per_s,) = struct.unpack(f"{order}I", data[body + 8 : body + 12])
        elif name == b"data":
            field, form = at + 4, f"{order}I"
            if length == 0xFFFF_FFFF and long_at is not None:
                field, form = long_at, f"{order}Q"
                (length,) = struct.unpack(form, data[field : field + 8])
            end = body + length + (length & 1)
            behind = data[end : end + 8] if end < size else b""
            if behind[:4] in (b"RIFF", b"RF64", b"RIFX") and data[end + 8 : end + 12] == b"WAVE":
                yield Part(start, end)
                yield from _wav_parts(data, end)
                return
            rest = size - end
            if rest * 10 < bytes_per_s or is_chunk(behind, rest) or length >= UNKNOWN_LENGTH:
                yield Part(start, size)
                return
            true = struct.pack(form, min(size - body, 2 ** (8 * struct.calcsize(form)) - 1))
            yield Part(start, size, ((field - start, true),), length_mended=length > 0)
            return
        at = body + length + (length & 1)
    yield Part(start, size)


def _au_patches(data: mmap.mmap, start: int) -> Iterator[tuple[int, bytes]]:
    if data[start + 8 : start + 12] == bytes(4):
        yield 8, b"\xff\xff\xff\xff"  # "until the end"


def _caf_patches(data: mmap.mmap, start: int) -> Iterator[tuple[int, bytes]]:
    at = start + 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 12], "big", signed=True)
        if data[at : at + 4] == b"data" and length <= 0:  # -1: "until the end"
            yield at + 4 - start, (len(data) - at - 12).to_bytes(8, "big")
            return
        at += 12 + max(0, length)
