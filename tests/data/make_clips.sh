#!/bin/sh
# Makes every clip of this folder, and the demo's question, again. Run it from the repository.
#
# Needs Debian's voices (apt install festival festvox-us-slt-hts flite) and this project's
# environment (make setup), which brings espeak-ng. README.md beside it says which voice speaks what, and its licence.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

slt() { # part, text: a woman, statistical parametric synthesis, 32 kHz
    echo "$2" > "$parts/text"
    text2wave -eval '(voice_cmu_us_slt_arctic_hts)' "$parts/text" -o "$parts/$1.wav"
}
rms() { # part, text: a man, clustered units, 16 kHz
    flite -voice rms -t "$2" -o "$parts/$1.wav"
}

f3() { # part, words a minute, pitch, range, text: a woman, formant synthesis, 22 kHz
    "$root/.venv/bin/python" - "$parts/$1.wav" "$2" "$3" "$4" "$5" <<EOF
import sys

import numpy as np
import soundfile

from textpro_stream.speech.espeak import Espeak

path, rate_wpm, pitch, span, text = sys.argv[1:]
voice, said = Espeak("en-us+f3"), []
voice._library.espeak_SetParameter(3, int(pitch), 0)  # speak_lib.h: espeakPITCH
voice._library.espeak_SetParameter(4, int(span), 0)  # espeakRANGE
voice.speak(text, False, int(rate_wpm), lambda audio: not said.append(audio), lambda *_: None)
soundfile.write(path, np.frombuffer(b"".join(said), np.int16), voice.rate_hz)
EOF
}

slt question "Can you tell me what photosynthesis is?"
slt italy "I am planning a trip to Italy next summer. \
Which city should we visit first, and how many days should we stay there?"
rms japan "What is the largest city in Japan?"
rms germany "And what is the largest city in Germany?"
slt know "I would like to know,"
slt fastest "which animal is the fastest on land."
slt stop "Stop, that is enough."
f3 even 165 50 50 "Why does this always take so long?"
f3 agitated 200 80 90 "Why does this always take so long?"

# Each line: file, then seconds of silence and parts in turn.
"$root/.venv/bin/python" - "$parts" <<EOF
import sys

import numpy as np
import soundfile
import soxr

RATE_HZ = 16_000
CLIPS = """
$root/textpro_stream/assets/question.flac 0.3 question 1.5
$root/textpro_stream/assets/even.flac 0.3 even 1.5
$root/textpro_stream/assets/agitated.flac 0.3 agitated 1.5
$here/long_question.flac 0.3 italy 1.5
$here/two_questions.flac 0.3 japan 2.5 germany 1.5
$here/thinking_pause.flac 0.3 know 0.7 fastest 1.5
$here/interruption.flac 0.1 stop 0.5
"""


def spoken(part: str) -> np.ndarray:
    samples, rate_hz = soundfile.read(f"{sys.argv[1]}/{part}.wav", dtype="float32")
    samples = soxr.resample(samples, rate_hz, RATE_HZ)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[max(0, loud[0] - 800) : loud[-1] + 800]  # the voices pad differently
    return 0.5 * samples / np.abs(samples).max()


for line in CLIPS.strip().splitlines():
    path, *steps = line.split()
    clip = np.concatenate(
        [np.zeros(round(float(s) * RATE_HZ)) if s[0].isdigit() else spoken(s) for s in steps]
    )
    # The hiss of a quiet room, 70 dB below full scale: digital silence is not what rooms sound like.
    clip += np.random.default_rng(0).normal(0, 10 ** (-70 / 20), len(clip))
    soundfile.write(path, clip, RATE_HZ, subtype="PCM_16", format="FLAC", compression_level=1.0)
    print(path, f"{len(clip) / RATE_HZ:.2f} s")
EOF
