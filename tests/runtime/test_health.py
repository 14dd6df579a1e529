"""When a model is taken for broken, and when for well again."""

from textpro_stream.runtime.health import IN_A_ROW, Health


def test_failures_in_a_row_of_one_model_make_it_unhealthy() -> None:
    health = Health()
    for _ in range(IN_A_ROW - 1):
        health.failed("llm")
        health.failed("asr")
    assert health.healthy
    health.failed("llm")
    assert not health.healthy
    assert health.faults == {"llm": IN_A_ROW, "asr": IN_A_ROW - 1}


def test_a_success_between_makes_it_bad_luck_and_one_behind_heals() -> None:
    health = Health()
    for _ in range(3 * IN_A_ROW):
        health.failed("asr")
        health.worked("asr")
    assert health.healthy
    for _ in range(IN_A_ROW):
        health.failed("asr")
    health.worked("llm")  # another model's success is none
    assert not health.healthy
    health.worked("asr")
    assert health.healthy
    assert health.faults["asr"] == 4 * IN_A_ROW  # what happened stays counted
