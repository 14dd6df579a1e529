from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.speech.clauses import MOST_WORDS, OPENING, Clause, ClauseSplitter


def split(*pieces: str) -> list[Clause]:
    splitter = ClauseSplitter()
    clauses = [clause for piece in pieces for clause in splitter.push(piece)]
    return clauses + splitter.finish()


def texts(text: str) -> list[str]:
    return [clause.text.strip() for clause in split(text)]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("Paris.", ["Paris."]),
        ("Sure! Here it is.", ["Sure!", "Here it is."]),
        ("Well, the sky is blue, you see. Yes.", ["Well,", "the sky is blue, you see.", "Yes."]),
        ("Is it? It is.", ["Is it?", "It is."]),
        ("It is “so.” Yes.", ["It is “so.”", "Yes."]),
        ("He said (rightly.) Then", ["He said (rightly.)", "Then"]),
        ("So… yes", ["So…", "yes"]),
        ("It costs 3.50 euros. Or 1,000,000.", ["It costs 3.50 euros.", "Or 1,000,000."]),
        ("Dr. Smith met Mrs. Jones. They spoke.", ["Dr. Smith met Mrs. Jones.", "They spoke."]),
        ("J. R. Smith wrote it. So did I. Yes.", ["J. R. Smith wrote it.", "So did I.", "Yes."]),
        ("Use e.g. Apples. Then stop.", ["Use e.g. Apples.", "Then stop."]),
        ("See it at 5 p.m. today. Go.", ["See it at 5 p.m. today.", "Go."]),
        ("Buy eggs, milk, etc. Then cook.", ["Buy eggs,", "milk, etc.", "Then cook."]),
        ("It was 1984. We met.", ["It was 1984.", "We met."]),
        ("See https://a.org/b.html?c=1,2. Bye.", ["See https://a.org/b.html?c=1,2.", "Bye."]),
        ("Steps:\n1. Mix it\n2. Bake it\n", ["Steps:", "1. Mix it", "2. Bake it"]),
        ("- **One** is here\n- Two", ["- **One** is here", "- Two"]),
        ("**Yes.** It is.", ["**Yes.**", "It is."]),
        ("... Hm", ["... Hm"]),
        ("It is—well — good", ["It is—well —", "good"]),
        ("今日は。元気です。", ["今日は。", "元気です。"]),
        ("Yes! 😀 It is.", ["Yes!", "😀 It is."]),
    ],
)
def test_where_clauses_end(text: str, clauses: list[str]) -> None:
    assert texts(text) == clauses


def test_a_first_clause_without_a_pause_ends_early() -> None:
    first, rest = split("Plants use sunlight every single day growing new green leaves everywhere.")
    assert first.text == "Plants use sunlight every single day"
    assert len(first.text.split()) == OPENING[0][1]
    assert rest.text == " growing new green leaves everywhere."


def test_it_would_rather_end_before_a_linking_word() -> None:
    first, rest = split("Photosynthesis turns bright light into sugar for plants.")
    assert first.text == "Photosynthesis turns bright light"
    assert rest.text == " into sugar for plants."


def test_the_second_clause_is_written_while_the_first_is_said() -> None:
    words = " ".join(f"w{i}" for i in range(40))
    clauses = texts(words)
    assert [len(clause.split()) for clause in clauses] == [6, 14, 20]
    assert texts("Hello! " + words) == [
        "Hello!",
        *[" ".join(words.split()[a:b]) for a, b in ((0, 14), (14, 40))],
    ]


def test_later_clauses_are_whole_sentences() -> None:
    sentence = "one two three four, five six seven eight nine and ten or eleven."
    assert texts("Hello! There! " + sentence) == ["Hello!", "There!", sentence]


def test_an_endless_sentence_is_cut_at_its_last_comma() -> None:
    words = [f"w{i}" for i in range(50)]
    words[20] += ","
    clauses = texts("Hello! There! " + " ".join(words))
    assert clauses == ["Hello!", "There!", " ".join(words[:21]), " ".join(words[21:])]
    words[20] = "w20"
    clauses = texts("Hello! There! " + " ".join(words))
    assert [len(clause.split()) for clause in clauses] == [1, 1, MOST_WORDS, 20]


def test_a_clause_comes_as_soon_as_the_next_word_begins() -> None:
    splitter = ClauseSplitter()
    assert splitter.push("Sure") == []
    assert splitter.push(",") == []
    assert splitter.push(" ") == []
    assert splitter.push("I") == [Clause("Sure,", 0)]
    assert splitter.finish() == [Clause(" I", 5)]


WORDS = (
    "The a sky, is blue. Dr. Smith 3.5 and which “so.” 1. \n * ** e.g. ... yes! no? — 😀 今日は。"
    " https://a.org/x, (etc.) I"
)
PROSE = st.lists(st.sampled_from(WORDS.split(" ")), max_size=60).map(" ".join)


@given(text=PROSE, cuts=st.lists(st.integers(0, 300), max_size=20))
def test_cutting_differently_changes_nothing(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert split(*pieces) == split(text)


@given(text=st.one_of(PROSE, st.text(max_size=200)))
def test_joined_clauses_are_the_text(text: str) -> None:
    clauses = split(text)
    assert "".join(clause.text for clause in clauses) == text
    at = 0
    for clause in clauses:
        assert clause.start == at
        at += len(clause.text)
