"""The three programs of a running coordinator, and what each is started with.

Flower's SuperLink answers nodes, operators and apps on one port, and its control API knows no authentication: so it
listens on this machine only, and nginx hands on the few calls that partners' nodes make, and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from model.inputs import InputError, write_text
from server.coordinator.folder import Coordinator
from server.coordinator.processes import environment, tail, tool, write_profile

PROFILE = "federation"  # the name by which the `flwr` command knows the SuperLink
NODE_CALLS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "pull-object",
    "push-object",
    "confirm-message-received",
    "get-run",
    "get-fab",
)
# Flower reads a call before it knows who calls, and its parser makes 28 bytes of one; so calls that hold ids only are
# kept small. Objects cost no more than they are: arrays come in pieces of 5 MB, a sealed packet comes whole.
MOST_MIB, MOST_OBJECT_MIB = 1, 64
_CALLS, _LARGE_CALLS = 16, 2  # at a time, of one address; large is what has eight digits of bytes
_RATE, _BURST = 50, 200  # calls a second of one address: five nodes of a run make 40 at most
_BOUNDS = f"""  client_max_body_size {MOST_MIB}m;
  client_body_timeout 60s;
  map $content_length $large {{ "~^[0-9]{{8,}}$" $binary_remote_addr; default ""; }}
  limit_conn_zone $binary_remote_addr zone=partners:1m;
  limit_conn_zone $large zone=large:1m;
  limit_req_zone $binary_remote_addr zone=calls:1m rate={_RATE}r/s;
  limit_conn partners {_CALLS};
  limit_req zone=calls burst={_BURST} nodelay;"""
_NGINX = ("nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx")  # not every user's PATH has sbin


@dataclass(frozen=True)
class Service:
    """One program: its command line, the port of this machine on which it answers (0: none) and what it waits for."""

    name: str
    command: tuple[str, ...]
    port: int = 0


def services(coordinator: Coordinator) -> tuple[Service, ...]:
    """What `up` runs, in the order in which it is started."""
    return (superlink(coordinator), superexec(coordinator), proxy(coordinator))


def superlink(coordinator: Coordinator) -> Service:
    """Flower's SuperLink: apart from the apps, only for registered nodes, with its state on disk."""
    certs = coordinator.path / "certs"
    command = (
        tool("flower-superlink"),
        *("--ssl-ca-certfile", str(certs / "ca.crt")),
        *("--ssl-certfile", str(certs / "server.crt")),
        *("--ssl-keyfile", str(certs / "server.key")),
        "--enable-supernode-auth",
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(certs / "superexec.secret")),
        "--disable-runtime-dependency-installation",
        *("--database", str(coordinator.running / "state.db")),
        *("--host", "127.0.0.1", "--port", str(coordinator.link_port)),
    )
    return Service("superlink", command, coordinator.link_port)


def superexec(coordinator: Coordinator) -> Service:
    """Flower's SuperExec, which starts the coordinator's app for each run."""
    certs = coordinator.path / "certs"
    command = (
        tool("flower-superexec"),
        *("--root-certificates", str(certs / "ca.crt")),
        *("--runtime-api-address", f"127.0.0.1:{coordinator.link_port}"),
        *("--superexec-auth-secret-file", str(certs / "superexec.secret")),
    )
    return Service("superexec", command)


def proxy(coordinator: Coordinator) -> Service:
    """The partners' listener."""
    folder = coordinator.path / "nginx"
    return Service("nginx", (_nginx(), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")), 0)


def prepare(coordinator: Coordinator) -> None:
    """Writes what the programs read, from the settings of now, and has nginx check its part."""
    write_profile(coordinator.home, PROFILE, f"127.0.0.1:{coordinator.link_port}", coordinator.authority)
    write_text(coordinator.path / "nginx" / "nginx.conf", proxy_file(coordinator))
    command = proxy(coordinator).command
    done = subprocess.run([*command, "-t", "-q"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(coordinator.path / "nginx" / "nginx.conf", "", f"is refused by nginx: {tail(done.stderr)}")


def flower_environment(coordinator: Coordinator) -> dict[str, str]:
    """The environment of the programs, and of `flwr` commands to this coordinator."""
    return environment(coordinator.home)


def proxy_file(coordinator: Coordinator) -> str:
    """nginx's configuration: it hands on what partners' nodes call, over TLS both ways, and refuses everything else.

    Nothing is buffered on disk, so that its workers need no folder of their own.
    """
    folder, certs = coordinator.path / "nginx", coordinator.path / "certs"
    temporary = "\n".join(
        f"  {kind}_temp_path {_quoted(folder / kind)};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""# Written by `fedscore coordinator up` from coordinator.toml: changes here are lost.
daemon off;
pid {_quoted(coordinator.running / "nginx.pid")};
error_log {_quoted(folder / "error.log")} warn;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
  access_log {_quoted(folder / "access.log")};
{temporary}
  server_tokens off;
{_BOUNDS}
  upstream link {{ server 127.0.0.1:{coordinator.link_port}; keepalive 16; }}
  server {{
    listen {coordinator.listen}:{coordinator.partner_port} ssl;
    ssl_certificate {_quoted(certs / "server.crt")};
    ssl_certificate_key {_quoted(certs / "server.key")};
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_read_timeout 300s;
    proxy_ssl_trusted_certificate {_quoted(certs / "ca.crt")};
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
    if ($http_transfer_encoding) {{ return 411; }}
{_locations()}
  }}
}}
"""


def _locations() -> str:
    """What is handed on: under the name that was matched, never as it was written (`..%3f`, `%0a`, a query)."""
    small = "|".join(call for call in NODE_CALLS if call != "push-object")
    only = "limit_except POST { deny all; }"
    to = "proxy_pass https://link"
    more = f"client_max_body_size {MOST_OBJECT_MIB}m; limit_conn partners {_CALLS}; limit_conn large {_LARGE_CALLS};"
    return f"""    location ~ ^/v1/fleet/({small})\\z {{ {only} {to}/v1/fleet/$1; }}
    location ~ ^/v1/fleet/(push-object)\\z {{ {only} {more} {to}/v1/fleet/$1; }}
    location ~ ^/(health)\\z {{ limit_except GET {{ deny all; }} {to}/$1; }}
    location / {{ access_log off; return 404; }}"""


def _quoted(path: Path) -> str:
    """A path as nginx reads it."""
    return json.dumps(str(path), ensure_ascii=False)


def _nginx() -> str:
    for name in _NGINX:
        found = shutil.which(name)
        if found and os.access(found, os.X_OK):
            return found
    raise InputError("this machine", "nginx", "is not installed", remedy="install the package nginx")
