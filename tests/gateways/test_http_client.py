"""The HTTP client of gateways, against servers that break the protocol."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config.secret import Secret
from dataflow.gateways import mapping
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.http_client import HttpClient, Response, Trouble, retry_after_s
from dataflow.gateways.port import Approved, Gateway, NotExecuted, Reply, Unknown
from dataflow.gateways.stripe import StripeGateway
from dataflow.gateways.time_limit import TimeLimit
from tests.gateways.sample_requests import make_request

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def approval(reference: str) -> bytes:
    return answer(json.dumps({"status": "approved", "reference": reference}).encode())


@asynccontextmanager
async def served(talk: Talk) -> AsyncIterator[str]:
    """Serve each connection with `talk`; the address."""

    async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(until_the_end, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    await reader.readexactly(int(length or 0))


def http(url: str) -> HttpGateway:
    return HttpGateway(url, mapping.contract(), credentials=None, timeout_s=60)


# ---- an answer belongs to a request ----


def replies_of_a_server_that_answers_twice(pause_s: float) -> tuple[Sequence[Reply], int]:
    """Return three replies, and the number of charges that the server has seen for them."""
    charges = 0
    idle = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal charges
        while True:
            await read_request(reader)
            charges += 1
            writer.write(approval(f"ch_{charges}"))
            if charges == 1:
                await asyncio.sleep(pause_s)
                writer.write(approval("nobody_asked"))
                await writer.drain()
                idle.set()

    async def life() -> list[Reply]:
        async with served(talk) as url:
            gateway = http(url)
            replies = [await gateway.charge(make_request("0"), "key-0")]
            await idle.wait()
            await asyncio.sleep(0.05)
            replies += [await gateway.charge(make_request(n), f"key-{n}") for n in ("1", "2")]
            await gateway.close()
            return replies

    return asyncio.run(life()), charges


@pytest.mark.parametrize("pause_s", [0, 0.05])
def test_an_unrequested_answer_decides_no_payment(pause_s: float) -> None:
    replies, charges = replies_of_a_server_that_answers_twice(pause_s)
    approved = [each for each in replies if isinstance(each, Approved)]
    assert approved == [Approved(f"ch_{n + 1}") for n in range(charges)]
    assert all(isinstance(each, Approved | NotExecuted) for each in replies)
    assert isinstance(replies[-1], Approved), "the next connection is another one"


# ---- trouble ----


def sent_to(talk: Talk, timeout_s: float = 60) -> Response | Trouble:
    async def life() -> Response | Trouble:
        async with served(talk) as url:
            client = HttpClient(url, timeout_s=timeout_s, headers={})
            response = await client.send("POST", "/x", body=b"{}")
            await client.close()
            return response

    return asyncio.run(life())


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        OK + b"Content-Length: 9\r\n\r\n{}",
        OK + b"Content-Length: -1\r\n\r\n{}",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_an_answer_that_breaks_the_protocol_is_unknown(raw: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(raw)

    assert isinstance(sent_to(talk), Unknown)


def test_an_answer_that_drips_is_given_up() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert isinstance(sent_to(talk, timeout_s=0.3), Unknown)


def test_a_charge_is_sent_once_on_a_connection_that_is_reset() -> None:
    """A library that sends it again by itself could charge after the caller has given up."""
    charges = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal charges
        await read_request(reader)
        charges += 1
        writer.write(answer(b"{}"))
        await read_request(reader)
        charges += 1
        writer.transport.abort()

    async def life() -> Response | Trouble:
        async with served(talk) as url:
            client = HttpClient(url, timeout_s=60, headers={})
            await client.send("POST", "/x", body=b"{}")
            response = await client.send("POST", "/x", body=b"{}")
            await client.close()
            return response

    assert isinstance(asyncio.run(life()), Unknown)
    assert charges == 2


def test_a_name_that_is_not_resolved_in_time_has_not_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def life() -> Response | Trouble:
        async def never(*_: object, **__: object) -> Any:
            await asyncio.sleep(3600)

        monkeypatch.setattr("dataflow.gateways.http_client._CONNECT_S", 0.1)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
        client = HttpClient("http://provider.example", timeout_s=60, headers={})
        response = await client.send("POST", "/x", body=b"{}")
        await client.close()
        return response

    assert isinstance(asyncio.run(life()), NotExecuted)


def test_a_proxy_of_the_environment_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.upper(), address)

        async def life() -> Response | Trouble:
            client = HttpClient("http://no-such-host.invalid", timeout_s=60, headers={})
            response = await client.send("POST", "/x", body=b"{}")
            await client.close()
            return response

        assert isinstance(asyncio.run(life()), NotExecuted)
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()


# ---- a request as it is sent ----


def requests_of(
    *sends: tuple[str, str, dict[str, str], bytes],
    base: str = "",
    headers: dict[str, str] | None = None,
) -> tuple[list[str], list[Response | Trouble]]:
    """Return what a server has got, without its own name, and what became of each call."""
    seen = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]
            seen.append((head + await reader.readexactly(int(length or 0))).decode())
            writer.write(answer(b"{}"))

    async def life() -> list[Response | Trouble]:
        async with served(talk) as url:
            client = HttpClient(url + base, timeout_s=5, headers=headers or {})
            replies = [
                await client.send(method, path, headers=more, body=body)
                for method, path, more, body in sends
            ]
            await client.close()
            seen[:] = [each.replace(url.removeprefix("http://"), "HOST") for each in seen]
            return replies

    return seen, asyncio.run(life())


def test_a_request_has_its_address_its_headers_and_its_body() -> None:
    [seen], _ = requests_of(
        ("POST", "/pay?a=%20b", {"Idempotency-Key": "k-1"}, b'{"a":1}'),
        base="/api/",
        headers={"Authorization": "Bearer t"},
    )
    head, _, body = seen.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    assert first == "POST /api/pay?a=%20b HTTP/1.1"
    assert {
        "Host: HOST",
        "Authorization: Bearer t",
        "Idempotency-Key: k-1",
        "Content-Length: 7",
    } < {*lines}
    assert body == '{"a":1}'


def test_a_header_of_a_call_replaces_that_of_all_calls_in_any_case() -> None:
    [seen], _ = requests_of(
        ("POST", "/x", {"content-TYPE": "application/json", "user-agent": "me"}, b"{}"),
        headers={"Content-Type": "text/plain"},
    )
    names = [line.partition(":")[0].lower() for line in seen.split("\r\n")[1:-2]]
    assert len(names) == len(set(names))
    assert "content-TYPE: application/json" in seen
    assert "text/plain" not in seen


def test_only_a_request_with_a_method_that_has_a_body_has_a_length() -> None:
    seen, _ = requests_of(("GET", "/x", {}, b""), ("POST", "/x", {}, b""))
    assert ["Content-Length: 0" in each for each in seen] == [False, True]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0"])
def test_a_header_that_would_be_two_is_not_sent(value: str) -> None:
    seen, [reply] = requests_of(("POST", "/x", {"Idempotency-Key": value}, b"{}"))
    assert seen == []
    assert isinstance(reply, Unknown)


# ---- connections ----


def answers_of(*raw: bytes, method: str = "POST") -> tuple[list[Response | Trouble], int]:
    """Return what becomes of as many calls, and how many connections they took."""
    connections = 0
    left = list(raw)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            if not (text := left.pop(0)):
                return
            writer.write(text)

    async def life() -> list[Response | Trouble]:
        async with served(talk) as url:
            client = HttpClient(url, timeout_s=5, headers={})
            calls = range(len(raw) - raw.count(b"") if method == "GET" else len(raw))
            replies = [await client.send(method, "/x") for _ in calls]
            await client.close()
            return replies

    return asyncio.run(life()), connections


def bodies(replies: list[Response | Trouble]) -> list[bytes | None]:
    return [each.body if isinstance(each, Response) else None for each in replies]


def test_a_connection_is_used_again() -> None:
    replies, connections = answers_of(answer(b"1"), answer(b"2"), answer(b""), answer(b"4"))
    assert bodies(replies) == [b"1", b"2", b"", b"4"]
    assert connections == 1


def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1"
    replies, connections = answers_of(closing, answer(b"2"))
    assert bodies(replies) == [b"1", b"2"]
    assert connections == 2


def test_a_connection_whose_answer_was_not_waited_for_is_not_used_again() -> None:
    """Its next answer is that of the call before."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        first = connections == 1
        while True:
            await read_request(reader)
            if not first:
                writer.write(answer(b"of the first call" if connections == 1 else b"2"))
            first = False

    async def life() -> list[Response | Trouble]:
        async with served(talk) as url:
            client = HttpClient(url, timeout_s=0.2, headers={})
            replies = [await client.send("POST", "/x")]
            client._limit = TimeLimit(5)
            replies.append(await client.send("POST", "/x"))
            await client.close()
            return replies

    assert bodies(asyncio.run(life())) == [None, b"2"]


def test_an_answer_that_is_not_the_last_one_is_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    replies, connections = answers_of(early + answer(b"1"), answer(b"2"))
    assert bodies(replies) == [b"1", b"2"]
    assert connections == 1


def test_a_look_up_on_a_connection_that_was_just_closed_is_sent_once_more() -> None:
    replies, connections = answers_of(answer(b"1"), b"", answer(b"2"), method="GET")
    assert bodies(replies) == [b"1", b"2"]
    assert connections == 2


def test_a_charge_on_a_connection_that_was_just_closed_is_not_sent_again() -> None:
    replies, _ = answers_of(answer(b"1"), b"", answer(b"2"))
    assert bodies(replies) == [b"1", None, b"2"]
    assert isinstance(replies[1], Unknown)


# ---- what cannot be read ----

UNREADABLE = [
    b'{"status": "approved", "reference": "caf\xe9", "id": "\xe9"}',  # Latin-1
    b'{"\xff": 1}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"status": "approved", "x": ' + b"[" * 100_000,
    b'{"id": "pi_1", "status": "succeeded", "amount": ' + b"9" * 5000 + b"}",
    b'{"a": 1e999}',
    b"NaN",
    b"\xef\xbb\xbf{}",
    b'"\\ud800"',
    b"",
]


@pytest.mark.parametrize("status", ["200 OK", "402 Payment Required", "404 Not Found"])
@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("provider", ["http", "stripe"])
def test_an_answer_that_cannot_be_read_raises_nothing(
    provider: str, body: bytes, status: str
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(answer(body, status))

    async def life() -> list[Reply | None]:
        async with served(talk) as url:
            gateway: Gateway = http(url)
            if provider == "stripe":
                gateway = StripeGateway(Secret("sk_test"), timeout_s=60, url=url)
            request = make_request(userId="cus_1", paymentMethod="pm_1")
            replies = [await gateway.charge(request, "key"), await gateway.lookup(request, "key")]
            await gateway.close()
            return replies

    replies = asyncio.run(life())
    if not status.startswith("404"):
        assert {type(each) for each in replies} == {Unknown}


# ---- the pause that a provider demands ----

NOON = "Wed, 21 Oct 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("demanded", "date", "pause_s"),
    [
        ("7", NOON, 7.0),
        ("0", NOON, 0.0),
        ("Wed, 21 Oct 2026 12:01:30 GMT", NOON, 90.0),
        # The two older forms of a date that HTTP has.
        ("Wednesday, 21-Oct-26 12:00:30 GMT", NOON, 30.0),
        ("Wed Oct 21 12:00:30 2026", NOON, 30.0),
        ("Wed, 21 Oct 2026 11:00:00 GMT", NOON, 0.0),
        # Our clock is not the provider's.
        ("Wed, 21 Oct 2026 12:01:30 GMT", None, None),
        ("Wed, 21 Oct 2026 12:01:30 GMT", "noon", None),
        ("soon", NOON, None),
        ("-1", NOON, None),
        ("1.5", NOON, None),
        ("9" * 30, NOON, None),
        (None, NOON, None),
    ],
)
def test_a_pause_is_demanded_in_seconds_or_by_a_date(
    demanded: str | None, date: str | None, pause_s: float | None
) -> None:
    headers = {"Retry-After": demanded, "Date": date}
    given_headers = {name: text for name, text in headers.items() if text is not None}
    assert retry_after_s(Response(429, given_headers, b"")) == pause_s


words = st.text(st.characters(max_codepoint=255), max_size=40) | st.from_regex(
    r"[A-Z][a-z]{2},? [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9]{1,3}:[0-9]{1,3}:[0-9]{1,3} .{0,6}"
)


@given(words, words)
def test_no_header_breaks_the_pause(demanded: str, date: str) -> None:
    pause_s = retry_after_s(Response(429, {"Retry-After": demanded, "Date": date}, b""))
    assert pause_s is None or pause_s >= 0
