"""The partners' listener, as nginx itself runs it: node calls pass over TLS, and nothing else does."""

from __future__ import annotations

import http.client
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from model.inputs import InputError
from server.coordinator import services
from server.coordinator.folder import Coordinator
from server.coordinator.processes import await_port, end, environment, shorten, started
from tests.coordinator_world import found_hub

pytestmark = pytest.mark.skipif(
    not any(shutil.which(name) for name in services._NGINX), reason="nginx is not installed: the listener is not tested"
)
BIG = 3_000_000  # bytes, more than nginx keeps in memory by itself


@dataclass
class Link:
    """Something that stands where the SuperLink does, and remembers what reached it."""

    server: http.server.ThreadingHTTPServer
    seen: list[tuple[str, str, int]] = field(default_factory=list)


def _serve(hub: Coordinator, certificate: Path) -> Link:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            link.seen.append((self.command, self.path, len(body)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")  # the next test's link must not be this one
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", hub.link_port), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    link = Link(server)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return link


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Coordinator:
    return found_hub(tmp_path_factory.mktemp("proxy") / "a hub")


@pytest.fixture(scope="module")
def nginx(hub: Coordinator) -> Iterator[None]:
    services.prepare(hub)
    process = started(services.proxy(hub).command, environment(hub.home), hub.running / "nginx.log")
    try:
        assert await_port(hub.partner_port, process, 60), (hub.path / "nginx" / "error.log").read_text()
        yield
    finally:
        end(process)


@pytest.fixture
def link(hub: Coordinator, nginx: None) -> Iterator[Link]:
    made = _serve(hub, hub.path / "certs" / "server.crt")
    yield made
    made.server.shutdown()
    made.server.server_close()


def _call(hub: Coordinator, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=str(hub.authority))
    connection = http.client.HTTPSConnection("localhost", hub.partner_port, context=context, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_every_call_of_a_node_passes_with_its_body(hub: Coordinator, link: Link) -> None:
    for name in services.NODE_CALLS:
        assert _call(hub, "POST", f"/v1/fleet/{name}", b"body") == (200, b"body")
    assert [path for _, path, _ in link.seen] == [f"/v1/fleet/{name}" for name in services.NODE_CALLS]
    assert _call(hub, "GET", "/health")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-runs",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/get-fab/../../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet/..%2fcontrol%2flist-runs",
        "//v1/control/list-runs",
        "/v1/fleet/",
        "/v1/fleet/get-fab/",
        "/v1/fleet/get-fabx",
        "/docs",
        "/openapi.json",
        "/health/x",
        "/",
    ],
)
def test_nothing_else_passes(hub: Coordinator, link: Link, path: str) -> None:
    for method in ("POST", "GET"):
        assert _call(hub, method, path)[0] in (400, 404)
    assert link.seen == []


def _raw(hub: Coordinator, sent: bytes, answers: int = 1) -> bytes:
    """What nginx answers to these bytes: so many heads, and what came with them."""
    context = ssl.create_default_context(cafile=str(hub.authority))
    with (
        socket.create_connection(("localhost", hub.partner_port), 60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(sent)
        answer = b""
        while answer.count(b"\r\n\r\n") < answers and (more := connection.recv(65536)):
            answer += more
    return answer


@pytest.mark.parametrize(
    ("line", "status", "reached"),
    [
        ("POST /v1/control/list-runs%3f/../../fleet/pull-messages", 200, "/v1/fleet/pull-messages"),
        ("POST /v1/control/list-runs%23/../../fleet/pull-messages", 200, "/v1/fleet/pull-messages"),
        ("POST /v1/control/../fleet/push-object", 200, "/v1/fleet/push-object"),
        ("POST //v1//fleet//pull-messages", 200, "/v1/fleet/pull-messages"),
        ("POST https://x/v1/fleet/pull-messages", 200, "/v1/fleet/pull-messages"),
        ("POST /v1/fleet/pull-messages?x=/../../control/list-runs", 200, "/v1/fleet/pull-messages"),
        ("GET /v1/fleet/..%3f/../../../health?x", 200, "/health"),
        ("POST /v1/fleet/pull-messages%0a", 404, ""),
        ("POST /v1/fleet/push-object%0a", 404, ""),
        ("POST /v1/fleet/push-object%00", 400, ""),
        ("GET /v1/fleet/pull-messages", 403, ""),
        ("PUT /v1/fleet/push-object", 403, ""),
        ("POST /health", 403, ""),
    ],
)
def test_only_the_name_that_was_matched_reaches_the_link(
    hub: Coordinator, link: Link, line: str, status: int, reached: str
) -> None:
    answer = _raw(hub, f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:80]
    assert [path for _, path, _ in link.seen] == ([reached] if reached else [])


def test_large_objects_pass_and_larger_ones_do_not_reach_the_link(hub: Coordinator, link: Link) -> None:
    body = bytes(range(256)) * (BIG // 256)
    assert _call(hub, "POST", "/v1/fleet/push-object", body) == (200, body)
    for name in services.NODE_CALLS:
        most = services.MOST_OBJECT_MIB if name == "push-object" else services.MOST_MIB
        head = f"POST /v1/fleet/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        declared = f"{head}Content-Length: {(most << 20) + 1}\r\n\r\n".encode()
        assert _raw(hub, declared).startswith(b"HTTP/1.1 413 "), name
    assert len(link.seen) == 1
    head = b"POST /v1/fleet/push-messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert _raw(hub, head).startswith(b"HTTP/1.1 411 ")  # a node tells its call's length
    assert len(link.seen) == 1


@pytest.mark.parametrize(("length", "most"), [("5", services._CALLS), ("10000000", services._LARGE_CALLS)])
def test_one_address_has_so_many_calls_at_a_time(hub: Coordinator, link: Link, length: str, most: int) -> None:
    context = ssl.create_default_context(cafile=str(hub.authority))
    with ExitStack() as held:
        for _ in range(most):
            call = http.client.HTTPSConnection("localhost", hub.partner_port, context=context, timeout=60)
            held.callback(call.close)
            call.putrequest("POST", "/v1/fleet/push-object")
            call.putheader("Content-Length", length)
            call.endheaders()
        head = f"/v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        deadline = time.monotonic() + 20  # nginx counts a call once it has read its head
        while _raw(hub, f"PUT {head}".encode()).startswith(b"HTTP/1.1 403 ") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _raw(hub, f"POST {head}".encode()).startswith(b"HTTP/1.1 503 ")  # which nodes try again


def test_one_address_makes_so_many_calls_a_second(hub: Coordinator, tmp_path: Path) -> None:
    own = found_hub(tmp_path / "own")  # whose count no other test uses
    services.prepare(own)
    process = started(services.proxy(own).command, environment(own.home), own.running / "nginx.log")
    try:
        assert await_port(own.partner_port, process, 60)
        many = services._BURST + 12 * services._RATE
        refused = b"PUT /health HTTP/1.1\r\nHost: x\r\n\r\n" * many  # nothing of it reaches the link
        begun = time.monotonic()
        answers = _raw(own, refused, many)
        passed, seconds = answers.count(b"HTTP/1.1 403 "), time.monotonic() - begun
        assert services._BURST <= passed <= services._BURST + 2 + services._RATE * seconds
        assert answers.count(b"HTTP/1.1 503 ") == many - passed >= services._RATE // 2
    finally:
        end(process)


def test_a_log_that_grew_begins_anew_while_nginx_writes_on(hub: Coordinator, link: Link) -> None:
    log = hub.path / "nginx" / "access.log"

    def logged(method: str) -> bool:
        line = f'"{method} /health'
        before = log.read_text().count(line)  # other tests' calls are there too
        _call(hub, method, "/health")
        deadline = time.monotonic() + 20  # nginx logs after it answered
        while log.read_text().count(line) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        return log.read_text().count(line) == before + 1

    assert logged("GET")
    shorten(log, 10_000_000)
    assert "GET /health" in log.read_text()
    shorten(log, 10)
    assert "GET /health" in log.with_name("access.log.1").read_text()
    assert logged("PATCH")
    assert "GET /health" not in log.read_text()
    before = log.stat().st_size
    for path in ("/", "/v1/control/list-runs"):  # whoever looks around fills no disk
        assert _call(hub, "GET", path)[0] == 404
    assert logged("PUT")
    assert (log.stat().st_size > before, "list-runs" in log.read_text()) == (True, False)


def test_whoever_does_not_know_the_authority_does_not_connect(hub: Coordinator, link: Link) -> None:
    connection = http.client.HTTPSConnection("localhost", hub.partner_port, timeout=60)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/health")
    assert link.seen == []


def test_a_link_with_another_authoritys_certificate_gets_nothing(hub: Coordinator, nginx: None, tmp_path: Path) -> None:
    other = found_hub(tmp_path / "other")
    link = _serve(hub, other.path / "certs" / "server.crt")
    try:
        assert _call(hub, "POST", "/v1/fleet/push-messages", b"secret")[0] == 502
        assert link.seen == []
    finally:
        link.server.shutdown()
        link.server.server_close()


def test_a_machine_without_nginx_is_told_what_to_install(hub: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_NGINX", ("no-such-program",))
    with pytest.raises(InputError, match="this machine: nginx is not installed; install the package nginx"):
        services.prepare(hub)


def test_what_nginx_refuses_is_one_line(hub: Coordinator, tmp_path: Path) -> None:
    (broken := found_hub(tmp_path / "broken").path / "certs" / "server.key").write_text("no key")
    with pytest.raises(InputError, match=r"nginx.conf: is refused by nginx: .*server") as told:
        services.prepare(Coordinator.load(broken.parents[1]))
    assert "\n" not in str(told.value)


def test_the_configuration_follows_the_settings(hub: Coordinator) -> None:
    text = services.proxy_file(replace(hub, listen="0.0.0.0", partner_port=18999))
    assert "listen 0.0.0.0:18999 ssl;" in text
    done = subprocess.run([services._nginx(), "-v"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
