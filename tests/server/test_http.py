from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from textpro_stream.server.http import Answers, content_security_policy, page_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    page = tmp_path / "web"
    (page / "js").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html>")
    (page / "js" / "app.js").write_text("export {};")
    (page / "jsconfig.map").write_text("{}")
    (page / ".secret.js").write_text("no")
    (tmp_path / "outside.js").write_text("no")
    (page / "link.js").symlink_to(tmp_path / "outside.js")
    return Answers(page)


def get(answers: Answers, path: str, known: str | None = None):
    return answers.page(path, host="127.0.0.1:1", known=known)


def test_the_page_and_its_modules(answers: Answers) -> None:
    page = get(answers, "/")
    assert page.status_code == 200
    assert page.body == b"<!doctype html>"
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-cache"
    assert get(answers, "/js/app.js").headers["Content-Type"] == "text/javascript; charset=utf-8"


def test_what_the_browser_has_is_not_sent_again(answers: Answers) -> None:
    tag = get(answers, "/").headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = get(answers, "/", known)
        assert (again.status_code, again.body) == (304, b"")
    assert get(answers, "/", '"other"').status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.js",
        "/js/../../outside.js",
        "/%2e%2e/outside.js",
        "/..%2foutside.js",
        "/js/..%5c..%5coutside.js",
        "/link.js",
        "/.secret.js",
        "/jsconfig.map",
        "/js",
        "/js/",
        "//js/app.js/",
        "/app.js%00.html",
        "/none.js",
    ],
)
def test_nothing_else_is_given_out(path: str, answers: Answers) -> None:
    assert get(answers, path).status_code == 404


def test_every_answer_keeps_a_browser_careful(answers: Answers) -> None:
    for path in ("/", "/none"):
        headers = get(answers, path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Permissions-Policy"] == "microphone=(self)"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Content-Security-Policy"] == content_security_policy("127.0.0.1:1")


def test_the_policy_allows_no_stranger() -> None:
    policy = dict(part.strip().split(" ", 1) for part in content_security_policy("h:1").split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["worker-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws://h:1 wss://h:1"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"


def test_the_page_of_this_checkout_is_found() -> None:
    assert (page_folder() / "index.html").is_file()


def test_an_installed_package_has_the_page_too(tmp_path: Path) -> None:
    orders = ["egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(
        [sys.executable, "setup.py", "-q", *orders], cwd=ROOT, check=True, capture_output=True
    )
    built = tmp_path / "textpro_stream" / "web"
    source = ROOT / "web"
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert files
    assert files <= {path.relative_to(built) for path in built.rglob("*")}
