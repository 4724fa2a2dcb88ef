"""Where the server listens, under which names, and what it says to what is no HTTP."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from served import Place, pairs, serving

from align.annotate.guard import HEADERS
from align.annotate.server import listen, origins
from align.annotate.settings import AnnotateSettings, QuestionSettings
from align.errors import ConfigError


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    with listen(AnnotateSettings(port=0)) as found:
        assert found.getsockname()[0] == "127.0.0.1"
    with pytest.raises(ConfigError, match="public_url"):
        AnnotateSettings(host="0.0.0.0")


def test_a_port_that_is_taken_is_said_before_anything_else() -> None:
    with listen(AnnotateSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=r"annotate\.port=0 takes a free one"):
            listen(AnnotateSettings(port=port))


def test_the_names_that_it_answers_to() -> None:
    assert origins(AnnotateSettings(), 8400) == [
        "http://127.0.0.1:8400",
        "http://[::1]:8400",
        "http://localhost:8400",
    ]
    assert origins(AnnotateSettings(host="::1"), 8400)[0] == "http://[::1]:8400"
    assert origins(AnnotateSettings(), 80)[0] == "http://127.0.0.1"
    public = AnnotateSettings(host="0.0.0.0", public_url="https://Study.example.org/anything")
    assert origins(public, 8400) == ["https://study.example.org"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"public_url": "study.example.org"}, "https://NAME"),
        ({"completion_url": "http://app.example.org"}, "https://"),
        ({"completion_url": "javascript:alert(1)"}, "https://"),
    ],
)
def test_addresses_that_are_none_are_refused(values: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AnnotateSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"criteria": ("helpful", " helpful")}, "each once"),
        ({"criteria": ("",)}, "1 to 60"),
        ({"criteria": tuple("abcdefghijklm")}, "13"),
        ({"strength": 7, "tie": False}, "tie in its middle"),
    ],
)
def test_questions_that_make_no_sense_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        QuestionSettings(**values)  # type: ignore[arg-type]


def test_what_is_no_http_gets_the_headers_too(tmp_path: Path) -> None:
    with (
        serving(Place(tmp_path), pairs(1)) as place,
        socket.create_connection(("127.0.0.1", place.port)) as line,
    ):
        line.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: line.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 400 ")
    for name, value in HEADERS.items():
        assert f"{name}: {value}\r\n" in answer
    assert "uvicorn" not in answer.lower()
