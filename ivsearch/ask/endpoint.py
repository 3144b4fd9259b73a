"""A server that speaks OpenAI's chat completions: vLLM, LMDeploy, SGLang, Ollama, llama.cpp and others.

Redirects are not followed, so pictures and key go nowhere but to the address that was given.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ivsearch.ask.completion import Delta, Refused, Trouble, streamed, whole
from ivsearch.ask.refusals import KEY_VARIABLE, LIMIT, NEWER_LIMIT, UnknownLimit, refusal, without_key
from ivsearch.errors import AnswerCut, IvsearchError, NetworkError, UsageError
from ivsearch.plain_text import one_line

if TYPE_CHECKING:
    import httpx2

EXAMPLES = (
    "http://localhost:8000/v1 (vLLM), http://localhost:23333/v1 (LMDeploy), http://localhost:30000/v1 (SGLang), "
    "http://localhost:11434/v1 (Ollama) or http://localhost:8080/v1 (llama.cpp)"
)
MOST_ERROR_BYTES = 64 << 10
MOST_LIST_BYTES = 4 << 20
# A piece is a token or more, in some 300 bytes of JSON; servers that add timings or probabilities take more.
MOST_ANSWER_BYTES, MOST_TOKEN_BYTES = 1 << 20, 4 << 10
SHOWN_MODELS, LONGEST_NAME = 8, 80


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for, in seconds. ``silence_s``: for its first word, and from each to the next.

    A request that may go well if asked again is, ``retries`` times: after as long as the server says, else after
    ``first_wait_s``, then twice that, and so on, half of it by chance. Never longer than ``longest_wait_s``.
    """

    connect_s: float = 10.0
    silence_s: float = 120.0
    retries: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked: ``messages`` as OpenAI's API has them. ``temperature`` 0 is greedy."""

    model: str
    messages: list[dict[str, Any]]
    n_pictures: int
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def body(self, limit: str = LIMIT) -> bytes:
        """``limit``: by which name the model knows the most tokens. One that knows the newer takes no temperature."""
        drawn = {"temperature": self.temperature, "top_p": self.top_p} if limit == LIMIT else {}
        document = {
            "model": self.model,
            "messages": self.messages,
            limit: self.max_new_tokens,
            **drawn,
            "seed": self.seed,
            "stream": True,
        }
        return json.dumps(document).encode()


def read_url(text: str) -> str:
    """The address as it is used: ``localhost:8000``, ``http://localhost:8000/`` and the address of the chat completions
    themselves are all understood. Raises UsageError for what cannot be one."""
    text = text.strip()
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"the address of a model server must not hold a password; a key goes into {KEY_VARIABLE}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or port == 0:
        raise UsageError(f"{text!r} is no address of a model server: write one such as {EXAMPLES}")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def key_at_hand() -> str:
    """The key of the environment; empty when there is none."""
    return os.environ.get(KEY_VARIABLE, "").strip()


def is_local(url: str) -> bool:
    """Whether the address is this machine, so that nothing leaves it."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Endpoint:
    """One server. ``url`` as ``read_url`` gives it; ``key`` is sent in the Authorization header and shown nowhere.

    Raises UsageError for a key that would travel unencrypted to another machine.
    """

    def __init__(self, url: str, key: str = "", patience: Patience | None = None) -> None:
        if key and url.startswith("http:") and not is_local(url):
            raise UsageError(
                f"{url} is another machine and not encrypted: the key in {KEY_VARIABLE} would be open to read on the "
                f"way. Use https://, a tunnel to this machine, or, if the server wants no key, unset {KEY_VARIABLE}"
            )
        if not key.isascii() or not key.isprintable():
            raise UsageError(f"the key in {KEY_VARIABLE} has characters that no key has: set it anew")
        self.url = url
        self._key = key
        self.patience = patience or Patience()
        # Seeded, so that a run can be repeated; chance is only to keep many clients from coming back together.
        self._chance = Random(0)
        self._limit = LIMIT

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    @cached_property
    def _client(self) -> httpx2.Client:
        import httpx2

        silence_s = self.patience.silence_s
        return httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(silence_s, connect=min(self.patience.connect_s, silence_s)),
            follow_redirects=False,
            # A proxy for the world outside must not see what goes to this machine.
            trust_env=not is_local(self.url),
        )

    def models(self) -> tuple[str, ...]:
        """The names of the models it has. Raises NetworkError."""
        tries = 0
        while True:
            try:
                body = self._list()
                break
            except Trouble as trouble:
                tries += 1
                self._give_up_or_wait(trouble, tries, "")
        try:
            return tuple(str(row["id"]) for row in json.loads(body)["data"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise NetworkError(f"{self.url} gives no list of models: is it an OpenAI-compatible server?") from error

    def _list(self) -> bytes:
        with self._speaking(), self._client.stream("GET", f"{self.url}/models") as response:
            body = _read(response, MOST_LIST_BYTES)
            if response.status_code != 200:
                raise refusal(response.status_code, response.headers, body, url=self.url, key=self._key, n_pictures=0)
            return body

    def stream(self, prompt: Prompt) -> Iterator[Delta]:
        """The answer piece by piece, up to the Delta with a ``finish``.

        Raises AnswerCut when it breaks off, NetworkError when there is none, UsageError when the server cannot do what
        is asked; all say what to do.
        """
        limit = self._limit
        said: list[str] = []
        tries = 0
        while True:
            try:
                for delta in self._once(prompt, limit):
                    self._limit = limit
                    said.append(delta.text)
                    yield delta
                return
            except Trouble as trouble:
                tries += 1
                self._give_up_or_wait(trouble, tries, "".join(said))
            except IvsearchError as error:
                if any(said):
                    raise AnswerCut(f"{error}: the answer is not whole", "".join(said)) from error
                if limit == NEWER_LIMIT or not isinstance(error, UnknownLimit):
                    raise
                limit = NEWER_LIMIT

    def _give_up_or_wait(self, trouble: Trouble, tries: int, said: str) -> None:
        if said:
            raise AnswerCut(f"{self.url} {trouble}: the answer is not whole, ask again", said) from trouble
        again = "" if tries == 1 else f", {tries} times"
        if not trouble.passing or tries > self.patience.retries:
            raise NetworkError(f"{self.url} {trouble}{again}") from trouble
        backoff_s = self.patience.first_wait_s * 2 ** (tries - 1)
        wait_s = backoff_s * (0.5 + self._chance.random() / 2) if trouble.wait_s is None else trouble.wait_s
        if trouble.wait_s is not None and wait_s > self.patience.longest_wait_s:
            raise NetworkError(f"{self.url} {trouble}: it asks to come back in {wait_s:.0f} s") from trouble
        time.sleep(min(wait_s, self.patience.longest_wait_s))

    def _once(self, prompt: Prompt, limit: str) -> Iterator[Delta]:
        body = prompt.body(limit)
        max_bytes = MOST_ANSWER_BYTES + prompt.max_new_tokens * MOST_TOKEN_BYTES
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        with (
            self._speaking(),
            self._client.stream("POST", f"{self.url}/chat/completions", content=body, headers=headers) as response,
        ):
            if response.status_code != 200:
                raise self._refusal(response.status_code, response.headers, _read(response, MOST_ERROR_BYTES), prompt)
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            try:
                if kind == "application/json":
                    yield from whole(response.iter_bytes(), max_bytes=max_bytes)
                else:
                    silence_s = self.patience.silence_s
                    yield from streamed(response.iter_bytes(), silence_s=silence_s, max_bytes=max_bytes)
            except Refused as refused:
                code = refused.document["error"]
                code = code.get("code") if isinstance(code, dict) else None
                status = code if isinstance(code, int) and 400 <= code < 600 else 500
                raise self._refusal(status, {}, json.dumps(refused.document).encode(), prompt) from refused

    def _refusal(self, status: int, headers: Any, body: bytes, prompt: Prompt) -> Exception:
        if status == 404:
            return self._not_there(prompt.model)
        return refusal(status, headers, body, url=self.url, key=self._key, n_pictures=prompt.n_pictures)

    def _not_there(self, model: str) -> Exception:
        """A server that lists models has not the one asked for; one that does not is something else."""
        try:
            known = self.models()
        except NetworkError:
            return NetworkError(f"there is no chat at {self.url}: most addresses end in /v1, such as {EXAMPLES}")
        return UsageError(f"{self.url} has no model {model!r}; it has: {self.listed(known)}")

    def listed(self, names: Sequence[str]) -> str:
        """Names of models in a line, the first few of them; ``none`` without any."""
        shown = ", ".join(one_line(name, LONGEST_NAME) for name in names[:SHOWN_MODELS]) or "none"
        more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
        return without_key(f"{shown}{more}", self._key)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turns what the HTTP client raises into words. What a server says in them never shows the key."""
        import httpx2

        try:
            yield
        except (Trouble, IvsearchError) as error:
            error.args = (without_key(str(error), self._key),)
            raise
        except httpx2.ConnectTimeout as error:
            raise Trouble("does not answer: is the address right?", passing=False) from error
        except httpx2.TimeoutException as error:
            raise Trouble(
                f"said nothing for {self.patience.silence_s:g} s: wait longer with chat_timeout_s", passing=False
            ) from error
        except httpx2.ConnectError as error:
            raise _no_connection(error) from error
        except httpx2.TransportError as error:
            raise Trouble("broke the connection", passing=True) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Trouble(f"gives an answer that is no HTTP ({type(error).__name__})", passing=False) from error


def _no_connection(error: BaseException) -> Trouble:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Trouble(
                f"has a certificate that is not trusted ({cause.verify_message}): name your own in SSL_CERT_FILE",
                passing=False,
            )
        if isinstance(cause, ssl.SSLError):
            return Trouble("does not speak TLS: does its address begin with http://?", passing=False)
        if isinstance(cause, socket.gaierror):
            return Trouble("cannot be found: is the name of the host right, and the network there?", passing=False)
        if isinstance(cause, ConnectionRefusedError):
            return Trouble("is not running: nobody listens there. Start the server, or name another", passing=False)
        cause = cause.__cause__ or cause.__context__
    return Trouble("cannot be reached: is the network there?", passing=False)


def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    """No more of the body than that."""
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            return body[:max_bytes]
    return body
