"""The partners' listener, as nginx itself runs it: node calls pass over TLS, and nothing else does."""

from __future__ import annotations

import http.client
import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from model.inputs import InputError
from server.coordinator import services
from server.coordinator.folder import Coordinator
from server.coordinator.processes import await_port, end, environment, started
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
        assert await_port(hub.partner_port, process, 10), (hub.path / "nginx" / "error.log").read_text()
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
    connection = http.client.HTTPSConnection("localhost", hub.partner_port, context=context, timeout=20)
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


def test_large_objects_pass_and_larger_ones_do_not_reach_the_link(hub: Coordinator, link: Link) -> None:
    body = bytes(range(256)) * (BIG // 256)
    assert _call(hub, "POST", "/v1/fleet/push-object", body) == (200, body)
    declared = http.client.HTTPSConnection(
        "localhost", hub.partner_port, context=ssl.create_default_context(cafile=str(hub.authority)), timeout=20
    )
    declared.putrequest("POST", "/v1/fleet/push-object")
    declared.putheader("Content-Length", str((services.MOST_MIB << 20) + 1))
    declared.endheaders()
    assert declared.getresponse().status == 413
    declared.close()
    assert len(link.seen) == 1


def test_whoever_does_not_know_the_authority_does_not_connect(hub: Coordinator, link: Link) -> None:
    connection = http.client.HTTPSConnection("localhost", hub.partner_port, timeout=20)
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
