"""What a model server can do wrong, on the wire; and what of it reaches the user."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from ivsearch.ask.endpoint import Endpoint, Patience, Prompt, is_local, read_url
from ivsearch.errors import AnswerCut, IvsearchError, NetworkError, UsageError
from tests.wire import DONE, Answer, Wire, events, nothing, piece, said, status

KEY = "sk-very-secret"
QUICK = Patience(connect_s=1.0, silence_s=20.0, retries=2, first_wait_s=0.01, longest_wait_s=2.0)
IMPATIENT = Patience(silence_s=1.0)


def ask(wire: Wire, *, key: str = KEY, n_pictures: int = 0, patience: Patience = QUICK) -> str:
    endpoint = Endpoint(wire.url, key, patience)
    prompt = Prompt("tiny", [{"role": "user", "content": "Hello"}], n_pictures, max_new_tokens=16)
    return "".join(delta.text for delta in endpoint.stream(prompt))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:11434/", "http://localhost:11434/v1"),
        (" https://chat.example/api/v2 ", "https://chat.example/api/v2"),
        ("http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1"),
    ],
)
def test_addresses_are_understood(text: str, url: str) -> None:
    assert read_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "ftp://host/v1", "http://", "http://host:x/v1", "http://host/v1?key=1", "http://[/v1", "http://h#x"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"is no address of a model server: write one such as http://localhost:8000/v1"
    ):
        read_url(text)


def test_an_address_holds_no_password() -> None:
    with pytest.raises(UsageError, match=r"^the address .* must not hold a password; a key goes into OPENAI_API_KEY$"):
        read_url("http://me:secret@host/v1")


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", 1), ("127.0.0.2", 1), ("[::1]", 1), ("10.0.0.1", 0), ("localhost.evil.example", 0), ("gpu", 0)],
)
def test_what_this_machine_is(host: str, local: int) -> None:
    assert is_local(f"http://{host}:8000/v1") == bool(local)


def test_a_key_does_not_travel_unencrypted() -> None:
    with pytest.raises(
        UsageError, match=r"^http://gpu:8000/v1 is another machine and not encrypted: the key"
    ) as refused:
        Endpoint("http://gpu:8000/v1", KEY)
    assert KEY not in str(refused.value)
    Endpoint("https://gpu:8000/v1", KEY)
    Endpoint("http://gpu:8000/v1")


def test_a_key_that_is_none() -> None:
    with pytest.raises(UsageError, match="has characters that no key has: set it anew"):
        Endpoint("https://host/v1", "a\nb")


def test_the_key_is_shown_nowhere() -> None:
    endpoint = Endpoint("https://host/v1", KEY)
    assert KEY not in f"{endpoint!r} {endpoint}"


def test_what_is_asked(wire: Wire) -> None:
    wire.answers = [said("Hel", "lo", " …\u2028 猫")]
    assert ask(wire) == "Hello …\u2028 猫"
    came = wire.came[0]
    assert came.path == "/v1/chat/completions"
    assert came.headers["authorization"] == f"Bearer {KEY}"
    assert came.document == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 16,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 0,
        "stream": True,
    }


def test_without_a_key_none_is_sent(wire: Wire) -> None:
    wire.answers = [said("x")]
    ask(wire, key="")
    assert "authorization" not in wire.came[0].headers


def test_nothing_of_this_machine_goes_through_a_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    wire.answers = [said("direct")]
    assert ask(wire) == "direct"


WHOLE = {"choices": [{"message": {"role": "assistant", "content": "All at once."}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (status(200, json.dumps(WHOLE).encode()), "All at once."),
        # Cut anywhere: in a character, in a line end, in the word "data".
        (events(*(bytes([b]) for b in piece("é") + piece("!", "stop") + DONE)), "é!"),
        (events(b": ping\r\n\r\ndata:" + piece("a")[6:-2] + b"\r\n\r\n", b"event: x\nid: 1\nretry: 5\n" + DONE), "a"),
        (events(b'data: {"choices":\ndata: [{"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n'), "b"),
        (events(piece(None), b'data: {"choices":[],"usage":{}}\n\n', piece("c"), piece("", "length")), "c"),
        # Some servers say with every piece that there is no end yet.
        (events(piece("a ", ""), piece("", ""), piece("b ", ""), piece("c", "stop"), DONE), "a b c"),
        (events(b'data: {"choices":[{"delta":{"content":"\\ud83d half"}}]}\n\n', DONE), "? half"),
        # Dead after it said that it was done.
        (events(piece("d", "stop"), end=False), "d"),
    ],
)
def test_odd_but_sound_answers(wire: Wire, answer: Answer, text: str) -> None:
    wire.answers = [answer]
    assert ask(wire) == text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (events(b"data: {bad\n\n"), r"sent '{bad', which is no JSON$"),
        (events(b"data: 5\n\n"), r"sent '5', which is no chat completion$"),
        (events(b'data: {"choices":[{"delta":{"content":5}}]}\n\n'), "which is no text$"),
        (events(b"<html>\n<body>sign in</body>\n"), r"sent '<html>' where an event should be$"),
        (status(200, b"{}"), r"sent '{}', which is no chat completion$"),
        (status(200, b"[" * 100_000), "which is no JSON$"),
        (status(200, b"<html>\n", "text/html"), "where an event should be$"),
        (status(307, Location="http://elsewhere.example/v1"), r"sends us on to http://elsewhere\.example/v1: if that"),
        (
            status(401, b'{"error":{"message":"bad sk-very-secret key"}}'),
            r"refuses the key in OPENAI_API_KEY \(401: bad …",
        ),
        (status(403), r"refuses the key in OPENAI_API_KEY \(403\): set the right one$"),
        (status(418, b'{"detail":[{"msg":"no tea"}]}'), r"refuses the request \(418: \[\{\"msg\": \"no tea\"\}\]\)$"),
        (
            status(400, b"bad\x1b[31m words\n" + b"x" * 999),
            r"refuses the request \(400: bad \[31m words x{280,300}…\)$",
        ),
    ],
)
def test_what_makes_no_sense_is_said_at_once(wire: Wire, answer: Answer, message: str) -> None:
    wire.answers = [answer]
    with pytest.raises(NetworkError, match=f"^{re.escape(wire.url)} .*{message}") as refused:
        ask(wire)
    assert refused.value.exit_code == 4 and not isinstance(refused.value, AnswerCut)
    assert KEY not in str(refused.value) and len(wire.came) == 1


ECHO = f"sent with Bearer {KEY} in it".encode()


@pytest.mark.parametrize(
    "answer",
    [
        events(ECHO + b"\n"),
        events(b"data: " + ECHO + b"\n\n"),
        # Cut off in the middle of the key.
        events(b"x" * 72 + ECHO[10:] + b"\n"),
        status(200, ECHO),
        status(302, Location=f"http://elsewhere.example/?key={KEY}"),
        status(418, ECHO),
        status(400, b"x" * 285 + KEY.encode()),
        status(429, ECHO),
        events(piece("Half"), b'data: {"error": "' + ECHO + b'"}\n\n'),
        events(piece("Half"), b'data: {"error": {"code": 400, "message": "' + ECHO + b'"}}\n\n'),
    ],
)
def test_a_key_that_is_echoed_is_shown_nowhere(wire: Wire, answer: Answer) -> None:
    wire.answers = [answer]
    with pytest.raises(IvsearchError) as refused:
        ask(wire)
    assert "…" in str(refused.value)
    assert not any(KEY[i : i + 8] in str(refused.value) for i in range(len(KEY) - 7))


def test_names_of_models_steer_nothing_and_end(wire: Wire) -> None:
    names = [{"id": f"\x1b[2J\u202egnp.{KEY}\nnext"}, {"id": "x" * 10_000}]
    wire.answers = [status(404), status(200, json.dumps({"data": names}).encode())]
    with pytest.raises(UsageError, match=r"it has: \[2Jgnp\.… next, x{80}…$"):
        ask(wire)


def test_no_key_where_one_is_wanted(wire: Wire) -> None:
    wire.answers = [status(401)]
    with pytest.raises(NetworkError, match=r"wants a key: set OPENAI_API_KEY \(401\)$"):
        ask(wire, key="")


@pytest.mark.parametrize(
    ("code", "words", "n_pictures", "message"),
    [
        (
            500,
            "image input is not supported",
            3,
            r"the model takes no pictures, or not these 3 \(500: .* \(--no-pictures\)$",
        ),
        (400, "tiny is not a multimodal model", 1, "takes no pictures"),
        (
            400,
            "This model's maximum context length is 4096 tokens.",
            9,
            r"the question with its 9 pictures is too long",
        ),
        (400, "the request exceeds the available context size", 0, r"too long for the model \(400: .*: show it fewer"),
        (413, "", 40, r"40 pictures are more than it takes at once \(413\): show fewer \(--frames\)$"),
    ],
)
def test_what_the_model_cannot_do(wire: Wire, code: int, words: str, n_pictures: int, message: str) -> None:
    wire.answers = [status(code, json.dumps({"error": {"message": words}}).encode() if words else b"")]
    with pytest.raises(UsageError, match=message):
        ask(wire, n_pictures=n_pictures)
    assert len(wire.came) == 1


def test_an_unknown_model_is_told_from_a_wrong_address(wire: Wire) -> None:
    names = [{"id": f"model-{i}"} for i in range(10)]
    wire.answers = [status(404), status(200, json.dumps({"data": names}).encode())]
    with pytest.raises(UsageError, match=r"has no model 'tiny'; it has: model-0, .*, model-7 and 2 more$"):
        ask(wire)
    wire.answers = [status(404)]
    with pytest.raises(NetworkError, match=r"^there is no chat at http://127.*: most addresses end in /v1, such as"):
        ask(wire)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": 5}', b'{"data": [{}]}'])
def test_a_list_of_models_that_is_none(wire: Wire, body: bytes) -> None:
    wire.answers = [status(200, body)]
    with pytest.raises(NetworkError, match="gives no list of models: is it an OpenAI-compatible server"):
        Endpoint(wire.url, "", QUICK).models()


def test_the_list_of_models_is_asked_for_again(wire: Wire) -> None:
    wire.answers = [status(503), status(200, b'{"data": [{"id": "a"}, {"id": "b"}]}')]
    assert Endpoint(wire.url, "", QUICK).models() == ("a", "b")


@pytest.mark.parametrize("code", [429, 503, 500, 502, 504])
def test_what_passes_is_asked_again(wire: Wire, code: int) -> None:
    wire.answers = [status(code, b"busy"), status(code), said("at last")]
    assert ask(wire) == "at last"
    assert len(wire.came) == 3


@pytest.mark.parametrize(("code", "message"), [(429, "has too much to do"), (500, "is in trouble")])
def test_what_does_not_pass_ends(wire: Wire, code: int, message: str) -> None:
    wire.answers = [status(code, b'{"message": "busy"}')]
    with pytest.raises(NetworkError, match=rf"{message} \({code}: busy\), 3 times$"):
        ask(wire)
    assert len(wire.came) == 3


@pytest.fixture
def waits_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it wanted to wait each time. It does wait, but a hundredth of that."""
    waits: list[float] = []

    class Clock:
        @staticmethod
        def sleep(wait_s: float) -> None:
            waits.append(wait_s)
            time.sleep(wait_s / 100)

    monkeypatch.setattr("ivsearch.ask.endpoint.time", Clock)
    return waits


def test_the_server_says_when_to_come_back(wire: Wire, waits_s: list[float]) -> None:
    wire.answers = [status(503, Retry_After="2"), said("x")]
    assert ask(wire) == "x"
    assert waits_s == [2.0]


def test_it_waits_before_it_asks_again(wire: Wire) -> None:
    wire.answers = [status(503, Retry_After="1"), said("x")]
    assert ask(wire) == "x"
    assert wire.came[1].at_s - wire.came[0].at_s >= 1.0


@pytest.mark.parametrize("later", ["3600", format_datetime(datetime.now(UTC) + timedelta(hours=1))])
def test_too_late_is_not_waited_for(wire: Wire, later: str) -> None:
    wire.answers = [status(429, Retry_After=later)]
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"has too much to do \(429\): it asks to come back in \d{4} s$"):
        ask(wire)
    assert time.monotonic() - started < 1800


@pytest.mark.parametrize("later", ["soon", "nan", "-5", "Mon, 99 Nov"])
def test_a_time_that_is_none_is_not_believed(wire: Wire, later: str) -> None:
    wire.answers = [status(503, Retry_After=later), said("x")]
    assert ask(wire) == "x"


def test_the_waits_grow(wire: Wire, waits_s: list[float]) -> None:
    wire.answers = [status(503), status(503), status(503), status(503), said("x")]
    patience = Patience(retries=4, first_wait_s=0.1, longest_wait_s=0.5)
    list(Endpoint(wire.url, "", patience).stream(Prompt("tiny", [], 0, 1)))
    assert len(waits_s) == len(wire.came) - 1 == 4
    for number, wait_s in enumerate(waits_s):
        assert 0.05 * 2**number <= wait_s <= min(0.1 * 2**number, 0.5)


@pytest.mark.parametrize("end", [True, False])
def test_a_stream_that_breaks_off_keeps_what_came(wire: Wire, end: bool) -> None:
    wire.answers = [events(piece("The cat "), piece("sat"), end=end)]
    pieces = []
    endpoint = Endpoint(wire.url, "", QUICK)
    with pytest.raises(AnswerCut, match=r" (broke|the connection|off).*: the answer is not whole, ask again$") as cut:
        for delta in endpoint.stream(Prompt("tiny", [], 0, 16)):
            pieces.append(delta.text)
    assert "".join(pieces) == cut.value.text == "The cat sat"
    assert cut.value.exit_code == 4 and len(wire.came) == 1


@pytest.mark.parametrize("answer", [events(end=False), events(piece(None)), lambda handler: None])
def test_what_breaks_off_before_the_first_word_is_asked_again(wire: Wire, answer: Answer) -> None:
    wire.answers = [answer, said("whole")]
    assert ask(wire) == "whole"


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [(None, NetworkError, "is in trouble"), (400, UsageError, "is too long for the model")],
)
def test_an_error_in_the_stream(wire: Wire, code: int | None, error: type[IvsearchError], message: str) -> None:
    document = {"error": {"message": "context length exceeded" if code else "out of memory", "code": code}}
    wire.answers = [events(b"data: " + json.dumps(document).encode() + b"\n\n")]
    with pytest.raises(error, match=message):
        ask(wire)
    wire.answers = [events(piece("Half"), b"data: " + json.dumps({"error": "out of memory"}).encode() + b"\n\n")]
    with pytest.raises(AnswerCut, match=r"is in trouble \(500: out of memory\): the answer is not whole"):
        ask(wire)


@pytest.mark.parametrize("code", [400, 401, 404, 418])
def test_a_refusal_in_the_middle_keeps_what_came(wire: Wire, code: int) -> None:
    document = {"error": {"message": "context length exceeded", "code": code}}
    wire.answers = [events(piece("Half"), b"data: " + json.dumps(document).encode() + b"\n\n")]
    with pytest.raises(AnswerCut, match=r": the answer is not whole$") as cut:
        ask(wire)
    assert cut.value.text == "Half"


def test_a_model_that_knows_the_limit_by_its_newer_name(wire: Wire) -> None:
    # As OpenAI's own say it.
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    wire.answers = [status(400, json.dumps({"error": {"message": words}}).encode()), said("Yes."), said("Again.")]
    endpoint = Endpoint(wire.url, KEY, QUICK)
    prompt = Prompt("tiny", [], 0, max_new_tokens=16, seed=3)
    assert "".join(delta.text for delta in endpoint.stream(prompt)) == "Yes."
    newer = {"model": "tiny", "messages": [], "max_completion_tokens": 16, "seed": 3, "stream": True}
    assert [came.document for came in wire.came[1:]] == [newer]
    # The next time it is known.
    assert "".join(delta.text for delta in endpoint.stream(prompt)) == "Again."
    assert [came.document for came in wire.came[1:]] == [newer, newer]


@pytest.mark.parametrize("words", ["max_tokens is not allowed here", "max_completion_tokens and max_tokens: no"])
def test_a_limit_it_knows_by_no_name(wire: Wire, words: str) -> None:
    wire.answers = [status(400, words.encode())]
    with pytest.raises(NetworkError, match=rf"refuses the request \(400: {words}\)$"):
        ask(wire)
    assert len(wire.came) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (nothing(60), NetworkError),
        (events(piece("A"), piece("B"), pause_s=60), AnswerCut),
        # Alive, but with nothing to say.
        (events(*[b": ping\n\n"] * 600, pause_s=0.1), NetworkError),
        (events(*[piece(None)] * 600, pause_s=0.1), NetworkError),
        (events(piece("A"), *[b": ping\n\n"] * 600, pause_s=0.1), AnswerCut),
    ],
)
def test_silence_ends(wire: Wire, answer: Answer, error: type[IvsearchError]) -> None:
    wire.answers = [answer]
    started = time.monotonic()
    with pytest.raises(error, match=r"said nothing for 1 s") as silent:
        ask(wire, patience=IMPATIENT)
    assert type(silent.value) is error
    assert time.monotonic() - started < 30 and len(wire.came) == 1


def test_thinking_is_no_silence(wire: Wire) -> None:
    thought = b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n'
    wire.answers = [events(*[thought] * 15, piece("Yes", "stop"), pause_s=0.1)]
    assert ask(wire, patience=IMPATIENT) == "Yes"


def test_an_endless_answer_ends(wire: Wire) -> None:
    wire.answers = [events(*[piece("word " * 1000)] * 2000)]
    with pytest.raises(
        AnswerCut, match=r"sent more than 1,114,112 bytes for one answer: the answer is not whole"
    ) as cut:
        ask(wire)
    assert 500_000 < len(cut.value.text) < 1_114_112


def test_a_huge_refusal_is_not_read(wire: Wire) -> None:
    wire.answers = [status(400, b"x" * (64 << 20))]
    with pytest.raises(NetworkError, match="refuses the request"):
        ask(wire)


def test_redirects_carry_the_key_nowhere(wire: Wire) -> None:
    from tests.wire import served

    with served() as other:
        other.answers = [said("stolen")]
        for code in (301, 302, 303, 307, 308):
            wire.answers = [status(code, Location=f"{other.url}/chat/completions")]
            with pytest.raises(NetworkError, match="sends us on to http://127"):
                ask(wire)
        assert other.came == []


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(
        NetworkError, match=r"is not running: nobody listens there\. Start the server, or name another$"
    ):
        Endpoint(url, "", QUICK).models()


def test_a_host_there_is_not() -> None:
    with pytest.raises(
        NetworkError, match=r"^http://no\.such\.host\.invalid/v1 cannot be found: is the name of the host"
    ):
        Endpoint("http://no.such.host.invalid/v1", "", QUICK).models()


def test_one_that_takes_no_connections() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        # The queue of a listening socket that nobody accepts from is soon full; then connecting takes for ever.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        with pytest.raises(NetworkError, match=r"does not answer: is the address right\?$"):
            Endpoint(f"http://127.0.0.1:{address[1]}/v1", "", QUICK).models()
        for each in waiting:
            each.close()


def test_a_server_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for _ in range(3):
                connection, _ = server.accept()
                connection.sendall(b"220 mail ready\r\n")
                connection.close()

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        with pytest.raises(NetworkError, match=r"broke the connection, 3 times$"):
            list(Endpoint(url, "", QUICK).stream(Prompt("tiny", [], 0, 1)))
        thread.join(5)


def test_tls_that_is_none(wire: Wire) -> None:
    wire.answers = [said("x")]
    with pytest.raises(NetworkError, match=r"does not speak TLS: does its address begin with http://\?$"):
        Endpoint(wire.url.replace("http:", "https:"), KEY, QUICK).models()


def test_a_certificate_nobody_vouches_for(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as plain, context.wrap_socket(plain, server_side=True) as server:

        def accept() -> None:
            try:
                server.accept()
            except (ssl.SSLError, OSError):
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        with pytest.raises(
            NetworkError, match=r"has a certificate that is not trusted \(.*\): name your own in SSL_CERT"
        ):
            Endpoint(f"https://localhost:{server.getsockname()[1]}/v1", KEY, QUICK).models()
        thread.join(5)
