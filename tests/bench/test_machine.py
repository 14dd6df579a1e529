from __future__ import annotations

from dataclasses import asdict, replace

from textpro_stream.bench.machine import LoadMeter, busy_seconds, environment
from textpro_stream.bench.serve import settings_from
from textpro_stream.config import Settings


def test_an_environment_names_what_decides_about_speed() -> None:
    told = environment(Settings())
    assert told["models"]["llm"] == "smollm2-135m"
    assert told["cores"] >= 1
    assert told["processor"]
    assert told["packages"]["torch"]


def test_busy_seconds_count_all_cores_but_not_their_idling(tmp_path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 800 50 0 0 0 30 0\ncpu0 1 2 3\n")
    at, busy = busy_seconds(stat)
    assert busy > 0
    assert at > 0
    assert busy_seconds(tmp_path / "none") == (0.0, 0.0)


def test_busy_seconds_of_work_and_of_idling(tmp_path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  0 0 0 900 100 0 0 0 0 0\n")
    assert busy_seconds(stat)[1] == 0.0


def test_a_meter_takes_our_own_work_off() -> None:
    meter = LoadMeter()
    figures = meter.read(0.0)
    assert all(value >= 0 for value in figures.values())


def test_settings_reach_the_server_as_they_are() -> None:
    settings = Settings()
    settings = replace(settings, turn=replace(settings.turn, eager_ms=123))
    assert settings_from(asdict(settings)) == settings
