"""The hub's own client against a hub of a few files on the loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from safetensors.numpy import save

from textpro_stream import store
from textpro_stream.errors import WeightsError
from textpro_stream.store import catalogue

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories as dictionaries of files."""

    def __init__(self) -> None:
        weights = save({"w": np.ones((64, 64), np.float32)})
        self.files: dict[str, bytes] = {
            "config.json": b'{"model_type": "qwen2"}',
            "tokenizer.json": b"{}",
            "model.safetensors": weights,
            "model.fp32-00001-of-00002.safetensors": weights,
            "pytorch_model.bin": b"pickle",
            "onnx/model.onnx": b"onnx",
            "README.md": b"# card",
        }
        self.lied_about: str | None = None  # a file whose listed sha256 is another
        self.broken: set[str] = set()  # files that end half way, once
        self.requests: list[str] = []
        self.error: tuple[int, str] | None = None

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content)}
            if name.endswith((".safetensors", ".bin", ".onnx")):
                truth = hashlib.sha256(content).hexdigest()
                sha256 = "0" * 64 if name == self.lied_about else truth
                entry["lfs"] = {  # one of the hub's listings says sha256, the other oid
                    "sha256": sha256,
                    "oid": truth,
                    "size": len(content),
                    "pointerSize": 100,
                }
            siblings.append(entry)
        return {"id": "org/name", "sha": COMMIT, "siblings": siblings}


@pytest.fixture
def hub(monkeypatch, cache) -> Iterator[Hub]:
    from huggingface_hub import constants

    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            hub.requests.append(f"{self.command} {path}")
            headers = {"X-Repo-Commit": COMMIT}
            status, content = 200, b""
            if hub.error is not None:
                status, headers["X-Error-Code"] = hub.error
            elif path.startswith("/api/models/org/name/tree/"):
                content = json.dumps(
                    [
                        {"type": "file", "path": s["rfilename"], "oid": "0" * 40, **s}
                        for s in hub.listing()["siblings"]
                    ]
                ).encode()
            elif path.startswith("/api/models/org/name"):
                content = json.dumps(hub.listing()).encode()
            elif (name := path.removeprefix(f"/org/name/resolve/{COMMIT}/")) not in hub.files:
                status = 404
            else:
                content = hub.files[name]
                headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
                if (start := self.headers.get("Range")) is not None:
                    at = int(start.removeprefix("bytes=").split("-")[0] or 0)
                    headers["Content-Range"] = f"bytes {at}-{len(content) - 1}/{len(content)}"
                    status, content = 206, content[at:]
            self.send_response(status)
            headers["Content-Length"] = str(len(content))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                name = path.rsplit("/", 1)[-1]
                if name in hub.broken:
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                else:
                    self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_repository_becomes_a_folder_of_what_is_needed(hub, cache, capfd) -> None:
    stages: list[str] = []
    folder = store.resolve("org/name", "llm", progress=lambda n, d, t, stage: stages.append(stage))
    assert folder == cache / "models" / "org--name"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "textpro-manifest.json",
        "tokenizer.json",
    ]
    assert stages[0] == "downloading"
    assert stages[-1] == "ready"
    assert store.verify("org/name") == []
    assert not (cache / "partial" / "org--name").exists()
    assert capfd.readouterr().err == ""  # the hub's bars stay silent


def test_once_here_the_hub_is_not_asked_again(hub, cache) -> None:
    store.resolve("org/name", "llm")
    hub.requests.clear()
    store.resolve("org/name", "llm")
    store.resolve("org/name", "llm", pull=False)
    assert hub.requests == []
    manifest = json.loads((store.where("org/name") / "textpro-manifest.json").read_text())
    assert manifest["commit"] == COMMIT
    assert [entry.name for entry in store.entries()][-1] == "org/name"


def test_pull_alone_learns_the_kind_from_the_config(hub) -> None:
    hub.files["config.json"] = b'{"model_type": "whisper"}'
    store.pull("org/name")
    assert store.resolve("org/name", "whisper", pull=False)
    with pytest.raises(WeightsError, match="is a whisper model, but a llm model is needed"):
        store.resolve("org/name", "llm", pull=False)


def test_pickles_are_refused_before_anything_is_downloaded(hub, cache) -> None:
    hub.files = {k: v for k, v in hub.files.items() if not k.endswith(".safetensors")}
    with pytest.raises(WeightsError, match=r"only as pickles \(pytorch_model.bin\)"):
        store.pull("org/name")
    assert not any("/resolve/" in request for request in hub.requests)
    assert not (cache / "models" / "org--name").exists()


def test_a_damaged_download_is_not_kept(hub, cache) -> None:
    hub.lied_about = "model.safetensors"
    with pytest.raises(WeightsError, match=r"model.safetensors arrived damaged"):
        store.pull("org/name")
    assert not (cache / "models" / "org--name").exists()
    assert not (cache / "partial" / "org--name").exists()


def test_shards_and_a_projector_come_along(hub) -> None:
    weights = hub.files.pop("model.safetensors")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    hub.files |= dict.fromkeys([*names, "projector.safetensors"], weights)
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    hub.files["textpro_config.json"] = b"{}"
    found = {path.name for path in store.pull("org/name").iterdir()}
    assert {*names, "projector.safetensors", "textpro_config.json"} <= found


def test_a_pinned_revision_lives_beside_the_newest(hub, cache) -> None:
    store.pull("org/name")
    assert store.pull("org/name", revision="v1").name == "org--name@v1"
    assert any("/revision/v1" in request for request in hub.requests)
    store.remove("org/name", revision="v1")
    assert store.where("org/name").is_dir()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ((401, "RepoNotFound"), "does not exist there, or is private"),
        ((403, "GatedRepo"), "accept its terms: .*huggingface.co/org/name .*HF_TOKEN"),
        ((404, "RevisionNotFound"), "has no revision 'v9'"),
        ((418, "Teapot"), "could not be fetched"),
    ],
)
def test_what_the_hub_refuses_is_explained_in_one_line(hub, error, words: str) -> None:
    hub.error = error
    with pytest.raises(WeightsError, match=words) as caught:
        store.pull("org/name", revision="v9")
    assert "\n" not in str(caught.value)


def test_offline_one_line_names_the_ways_out(hub, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        WeightsError, match=r"textpro models pull org/name.*TEXTPRO_CACHE"
    ) as caught:
        store.resolve("org/name", "llm")
    assert "\n" not in str(caught.value)


def test_an_interrupted_download_goes_on_and_is_never_visible(hub, cache, monkeypatch) -> None:
    import huggingface_hub

    real = huggingface_hub.snapshot_download

    def interrupted(*args: object, **kwargs: object) -> str:
        kwargs["allow_patterns"] = ["config.json", "model.safetensors"]
        real(*args, **kwargs)  # type: ignore[arg-type]  # passes on what it was given
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.pull("org/name")
    assert not (cache / "models" / "org--name").exists()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", real)
    hub.requests.clear()
    store.pull("org/name")
    assert not any(r.startswith("GET") and "model.safetensors" in r for r in hub.requests)
    assert store.verify("org/name") == []


def test_remove_frees_a_cut_off_download(hub, cache) -> None:
    partial = cache / "partial" / "org--name"
    partial.mkdir(parents=True)
    (partial / "half").write_bytes(b"half")
    store.remove("org/name")
    assert not partial.exists()


def test_a_repository_that_cannot_be_used_is_not_kept(hub, cache) -> None:
    del hub.files["tokenizer.json"]
    with pytest.raises(WeightsError, match="no tokenizer"):
        store.pull("org/name")
    assert not (cache / "models" / "org--name").exists()
    assert not (cache / "partial" / "org--name").exists()


def a_voice(monkeypatch: pytest.MonkeyPatch, name: str, *files: str) -> None:
    voice = catalogue.HubModel(name, "voice", "org/name", files=files)
    monkeypatch.setattr(catalogue, "_piper_voice", lambda *_: voice)


def test_a_piper_voice_is_two_files_laid_flat(hub, cache, monkeypatch) -> None:
    path = "en/en_US/lessac/medium/en_US-lessac-medium.onnx"
    hub.files = {path: b"onnx", f"{path}.json": b"{}", "en/other.onnx": b"other"}
    a_voice(monkeypatch, "en_US-lessac-medium", path, f"{path}.json")
    folder = store.resolve("en_US-lessac-medium", "voice")
    assert sorted(path.name for path in folder.iterdir()) == [
        "en_US-lessac-medium.onnx",
        "en_US-lessac-medium.onnx.json",
        "textpro-manifest.json",
    ]


def test_a_voice_that_is_not_there(hub, monkeypatch) -> None:
    a_voice(monkeypatch, "en_US-nobody-medium", "en/nobody.onnx")
    with pytest.raises(WeightsError, match="no voice en_US-nobody-medium"):
        store.resolve("en_US-nobody-medium", "voice")
