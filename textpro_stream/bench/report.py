"""A result as one page: self-contained, without scripts, light and dark, fit to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from textpro_stream.bench import plots
from textpro_stream.bench.drive import Turn
from textpro_stream.bench.serve import OURS
from textpro_stream.bench.table import SHOWN, interval

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5d6670; --faint: #e3e6ea;
  --paper: #fcfcfb; --card: #ffffff; --s0: #0b7a75; --s1: #c2571a; --s2: #7a5cc0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa3ad; --faint: #2c3238;
  --paper: #14171a; --card: #1b1f23; --s0: #45c4bb; --s1: #ee9a5f; --s2: #b29cf0; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, sans-serif; font-variant-numeric: tabular-nums }
main { max-width: 1080px; margin: 0 auto; padding: 48px 20px 80px }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 6px }
h2 { font-size: 18px; letter-spacing: -.01em; margin: 48px 0 2px }
p { margin: 0 0 12px; max-width: 66ch } .soft { color: var(--soft) }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 26px 0 0 }
.tile { flex: 1 1 150px; background: var(--card); border: 1px solid var(--faint);
  border-radius: 12px; padding: 14px 16px }
.tile b { display: block; font-size: 28px; line-height: 1.2; letter-spacing: -.02em }
.tile span { color: var(--soft); font-size: 13px }
figure { margin: 12px 0 0; background: var(--card); border: 1px solid var(--faint);
  border-radius: 12px; padding: 16px; overflow-x: auto }
svg { display: block; width: 100%; min-width: 560px; height: auto }
.scroll { overflow-x: auto; margin-top: 12px }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; white-space: nowrap }
th { text-align: right; font-weight: 500; color: var(--soft); white-space: normal;
  vertical-align: bottom; line-height: 1.25 }
td { text-align: right } th, td { padding: 5px 7px; border-bottom: 1px solid var(--faint) }
th:first-child, td:first-child, td.left, th.left { text-align: left }
tr.first td { border-top: 2px solid var(--faint) } td small { color: var(--soft) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; font-size: 13.5px }
dt { color: var(--soft) } dd { margin: 0 }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13.5px; margin: 10px 0 0;
  padding: 0; list-style: none }
.legend li::before { content: ""; display: inline-block; width: 10px; height: 10px;
  border-radius: 50%; background: currentColor; margin-right: 7px }
.legend .s0, td.s0 { color: var(--s0) } .legend .s1, td.s1 { color: var(--s1) }
.legend .s2, td.s2 { color: var(--s2) }
svg text { font-size: 12px; fill: var(--ink) } svg .tick, svg .axis { fill: var(--soft) }
svg .name { font-weight: 600 } svg .grid { stroke: var(--faint) } svg .zero { stroke: var(--soft) }
svg .bound { stroke: var(--s1); stroke-dasharray: 5 4 }
svg .line { fill: none; stroke-width: 2.2; stroke-linejoin: round } svg .thin { stroke-width: 1.2 }
svg .mark { stroke-width: 2.5 } svg .shade { opacity: .13 } svg .speck { opacity: .42 }
svg .fill { opacity: .8 }
svg .s0 { fill: var(--s0) } svg .s1 { fill: var(--s1) } svg .s2 { fill: var(--s2) }
svg .s0.line, svg .s0.mark { stroke: var(--s0); fill: none }
svg .s1.line, svg .s1.mark { stroke: var(--s1); fill: none }
svg .s2.line, svg .s2.mark { stroke: var(--s2); fill: none }
"""

ABOUT = {
    OURS: "words reach the LLM while they are spoken; the reply is drafted in the pause",
    "record-then-run": "500 ms of silence, then recognition, the whole reply, all its audio",
    "sentence-streaming": "500 ms of silence, then recognition, then the reply by sentences",
}

DEFINITIONS = (
    (
        "user_perceived",
        "from the labelled end of speech to the arrival of the reply's first sound at the client,"
        " by the client's clock: network included, loudspeaker not",
    ),
    (
        "server_perceived",
        "from the end of speech as the server judged it to the first sound it gave out",
    ),
    ("true_endpoint_delay", "from the labelled end of speech to the endpoint, on the audio clock"),
    ("ttft_commit", "from the last word in the LLM's input to its first token"),
    (
        "ttft_ready",
        "from the endpoint to the first token; at or below zero it was there before the endpoint",
    ),
    ("asr_lag", "from the end of speech to the last word in the LLM's input"),
    ("ready", "turns whose first token was there when the turn ended"),
    ("waste", "reply tokens drafted for pauses that were not the end, per turn"),
    ("cut off", "questions that were answered before they had been asked; they enter no latency"),
    (
        "check",
        "turns whose parts (misjudged end of speech, server, network) miss user_perceived by more"
        " than 10 ms",
    ),
)


def page(result: dict[str, Any]) -> str:
    """The whole page as HTML."""
    turns = [Turn(**entry) for entry in result["turns"]]
    answered = [turn for turn in turns if turn.status == "ok"]
    sections = [
        _heading(result, answered),
        _figure(
            "Does the wait grow with the question?",
            "From the end of speech to the first sound, as the server saw it. Lines are medians,"
            " shades reach up to the p95, each dot is a turn."
            + _growth(result, "server_perceived"),
            plots.flatness(answered, "server_perceived", "server_perceived by question length"),
            result,
        ),
        _table(result),
        _figure(
            "Where the time goes",
            "The median turn of each system, from the true end of speech. What lies under the bar"
            " of the endpoint was done while it was still being waited for, and cost nobody any"
            " time.",
            plots.waterfall(answered, "waterfall of the median turns"),
            result,
        ),
        _figure(
            "Every turn",
            "What the listener waited, network included; the bar is the median.",
            plots.strips(answered, "user_perceived", "user_perceived of every turn"),
            result,
        ),
        _figure(
            "From the endpoint to the first token",
            "Below zero, the reply had begun before the turn was over."
            + _growth(result, "ttft_ready"),
            plots.flatness(answered, "ttft_ready", "ttft_ready by question length"),
            result,
        ),
        _figure(
            "From the last word to the first token",
            "What the LLM costs once all words are in its input." + _growth(result, "ttft_commit"),
            plots.flatness(answered, "ttft_commit", "ttft_commit by question length"),
            result,
        ),
        _crowd(result),
        _notes(result),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'\">"
        f"<title>How long a listener waits</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _heading(result: dict[str, Any], turns: Sequence[Turn]) -> str:
    told = result["environment"]
    server = told.get("server", {})
    where = f"{told['processor']}, {told['cores']} cores"
    tiles = []
    ours = result["systems"].get(OURS, {})
    for group, entry in ours.items():
        figure = entry["figures"]["user_perceived"]
        if figure["n"]:
            ratios = [
                f"{gain['value']:.1f}&times; in {escape(name)}"
                for name, gain in result["gains"].get(group, {}).items()
                if gain["value"] is not None
            ]
            more = "<br>".join(ratios or [f"p95 {figure['p95'] * 1000:.0f} ms"])
            tiles.append(
                f'<div class="tile"><span>{escape(group)} question, n = {figure["n"]}</span>'
                f"<b>{figure['p50'] * 1000:.0f} ms</b><span>{more}</span></div>"
            )
    return (
        "<h1>How long a listener waits</h1>"
        f'<p class="soft">{escape(told["date"])} · textpro-stream {escape(told["version"])} ·'
        f" {escape(where)} · {escape(server.get('device', ''))} · {len(turns)} turns</p>"
        "<p>Median time from the last spoken word to the first sound of the reply, measured by a"
        " client over a WebSocket.</p>"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _figure(title: str, text: str, drawing: str, result: dict[str, Any]) -> str:
    if not drawing:
        return ""
    return (
        f"<h2>{escape(title)}</h2><p class=soft>{escape(text)}</p>"
        f"<figure>{drawing}{_legend(list(result['systems']))}</figure>"
    )


def _legend(systems: Sequence[str]) -> str:
    if len(systems) < 2:
        return ""
    items = "".join(
        f'<li class="{plots.class_of(name, systems)}">{escape(name)}</li>' for name in systems
    )
    return f'<ul class="legend">{items}</ul>'


def _growth(result: dict[str, Any], figure: str) -> str:
    grown = [
        f"{name} {of[figure] * 1000:+.1f} ms"
        for name, of in result["growth"].items()
        if of[figure] is not None
    ]
    return f" Per second of question: {', '.join(grown)}." if grown else ""


def _table(result: dict[str, Any]) -> str:
    columns = SHOWN
    head = "".join(f"<th>{name.replace('_', '_<wbr>')}</th>" for name in columns)
    rows = []
    systems = result["systems"]
    for group in dict.fromkeys(group for of in systems.values() for group in of):
        for number, (system, of) in enumerate(systems.items()):
            entry = of[group]
            gain = result["gains"].get(group, {}).get(system)
            cells = "".join(_cell(entry["figures"][name]) for name in columns)
            style = plots.class_of(system, list(systems))
            waste = entry["waste_tokens"]
            rows.append(
                f'<tr class="{"" if number else "first"}"><td>{group if not number else ""}</td>'
                f'<td class="left {style}">{escape(system)}</td><td>{_gain(gain)}</td>{cells}'
                f"<td>{entry['answered']}</td><td>{entry['cut_off']}</td>"
                f"<td>{entry['ready']}</td><td>{'-' if waste is None else f'{waste:.1f}'}</td>"
                f"<td>{entry['check_failed']}</td></tr>"
            )
    return (
        "<h2>By length</h2><p class=soft>Medians in ms, p95 beside them where there are at least"
        " 20 turns. The ratio is theirs over ours, of medians of user_perceived, with its 95 %"
        " bootstrap interval.</p>"
        '<div class="scroll"><table><tr><th>question</th><th class="left">system</th>'
        f"<th>ratio</th>{head}<th>n</th><th>cut off</th><th>ready</th><th>waste</th>"
        f"<th>check</th></tr>{''.join(rows)}</table></div>"
    )


def _cell(figure: dict[str, Any]) -> str:
    if not figure["n"]:
        return "<td>-</td>"
    p95 = f" <small>{figure['p95'] * 1000:.0f}</small>" if figure["n"] >= 20 else ""
    return f"<td>{figure['p50'] * 1000:.0f}{p95}</td>"


def _gain(gain: dict[str, Any] | None) -> str:
    if gain is None or gain["value"] is None:
        return ""
    if gain["low"] is None:
        return f"{gain['value']:.2f} <small>few</small>"
    return f"{gain['value']:.2f} <small>{gain['low']:.2f} to {gain['high']:.2f}</small>"


def _crowd(result: dict[str, Any]) -> str:
    drawing = plots.crowd(result["sessions"], "server_perceived by sessions at once")
    if not drawing:
        return ""
    rows = "".join(
        f"<tr><td>{entry['sessions']}</td>{_cell(entry['server_perceived'])}"
        f"{_cell(entry['user_perceived'])}<td>{entry['answered']} of {entry['turns']}</td>"
        f"<td>{entry['cut_off']}</td><td>{entry['load'].get('own', '-')}</td></tr>"
        for entry in result["sessions"]
    )
    return (
        "<h2>How many at once</h2><p class=soft>Each listener asks a question of 5 s, hears the"
        " reply out, and asks again; they begin spread over one question.</p>"
        f"<figure>{drawing}</figure>"
        '<div class="scroll"><table><tr><th>sessions</th><th>server_perceived</th>'
        "<th>user_perceived</th><th>answered</th><th>cut off</th><th>cores busy</th></tr>"
        f"{rows}</table></div>"
    )


def _notes(result: dict[str, Any]) -> str:
    told = result["environment"]
    turns = result["turns"]
    others = [turn["load"]["others"] for turn in turns if "others" in turn["load"]]
    errors = [turn["client"].get("clock_error", 0.0) for turn in turns]
    server = told.get("server", {})
    facts = {
        "models": ", ".join(f"{kind} {name}" for kind, name in told["models"].items()),
        "endpoint": ", ".join(f"{name} {ms} ms" for name, ms in told["endpoint_ms"].items()),
        "server": ", ".join(f"{name} {value}" for name, value in server.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in told["packages"].items()),
        "system": f"{told['system']}, Python {told['python']}",
        "where": told["url"],
        "end of speech known from": ", ".join(told["labels"]),
        "other load": f"median {sorted(others)[len(others) // 2]:.2f} cores" if others else "?",
        "clocks": f"within {max(errors) * 1000:.1f} ms at worst" if errors else "?",
        "warm-up": f"{len(result['warm_up'])} turns, not counted",
    }
    if len(result["systems"]) > 1:
        facts["baselines"] = (
            "hear the question at the pace of speech"
            if told["baselines_paced"]
            else "get the question faster up to its last second, for they only record"
        )
    about = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(ABOUT.get(name, ''))}</dd>"
        for name in result["systems"]
    )
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    meant = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in DEFINITIONS)
    gains = "".join(
        f"<dt>{escape(group)}, {escape(name)}</dt><dd>{gain['value']:.2f} times"
        f" ({escape(interval(gain))})</dd>"
        for group, of in result["gains"].items()
        for name, gain in of.items()
        if gain["value"] is not None
    )
    return (
        f"<h2>Systems</h2><dl>{about}</dl>"
        + (f"<h2>Ratios</h2><dl>{gains}</dl>" if gains else "")
        + f"<h2>What the figures mean</h2><dl>{meant}</dl>"
        f"<h2>Measured on</h2><dl>{listed}</dl>"
    )
