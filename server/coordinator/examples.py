"""Examples for running a coordinator and a partner as services: systemd units, and a Compose file."""

from __future__ import annotations

import sys

from model.inputs import write_text
from server.coordinator.folder import Coordinator
from server.coordinator.processes import tool

FOLDER = "examples"
COORDINATOR_UNIT, PARTNER_UNIT = "fedscore-coordinator.service", "fedscore-partner@.service"
COMPOSE, IMAGE = "compose.yaml", "Containerfile"


def write_examples(coordinator: Coordinator) -> None:
    """Writes the examples, with this folder's own paths and ports, into its `examples`."""
    folder = coordinator.path / FOLDER
    folder.mkdir(exist_ok=True)
    for name, text in (
        (COORDINATOR_UNIT, coordinator_unit(coordinator)),
        (PARTNER_UNIT, partner_unit()),
        (COMPOSE, compose(coordinator)),
        (IMAGE, image()),
    ):
        write_text(folder / name, text)


def coordinator_unit(coordinator: Coordinator) -> str:
    """The systemd unit of a coordinator: its supervisor restarts the programs, systemd restarts the supervisor."""
    said = f"# /etc/systemd/system/{COORDINATOR_UNIT}"
    what, command = f"coordinator of {coordinator.name}", f"coordinator up {coordinator.path}"
    return _unit(said, what, command, 10, str(coordinator.path))


def partner_unit() -> str:
    """The systemd unit of a partner's node; the instance's name is that of its folder under /srv/fedscore."""
    said = f"# /etc/systemd/system/{PARTNER_UNIT}: systemctl enable --now fedscore-partner@pay-1"
    return _unit(said, "node %i", "partner start /srv/fedscore/%i", 70, "/srv/fedscore/%i")


def _unit(said: str, what: str, command: str, pause: int, folder: str) -> str:
    """A systemd unit of one command of ours, started again `pause` seconds after it died, that writes in one folder."""
    return f"""{said}
[Unit]
Description=fedscore {what}
After=network-online.target
Wants=network-online.target

[Service]
Type=simple
User=fedscore
ExecStart={tool("fedscore")} {command}
Restart=on-failure
RestartSec={pause}
KillMode=mixed
TimeoutStopSec=60
UMask=0077
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}

[Install]
WantedBy=multi-user.target
"""


def compose(coordinator: Coordinator) -> str:
    """A Compose file with a coordinator and one partner, each in a container of its own."""
    return f"""# podman compose up, or docker compose up, in this folder; both services run the image of {IMAGE}.
# In coordinator.toml set listen = "0.0.0.0" and host to the name by which partners reach this machine.
services:
  coordinator:
    image: fedscore:local
    command: ["fedscore", "coordinator", "up", "{coordinator.path}"]
    volumes: ["{coordinator.path}:{coordinator.path}"]
    ports: ["{coordinator.partner_port}:{coordinator.partner_port}"]
    restart: on-failure
    stop_grace_period: 60s
    read_only: true
    tmpfs: ["/tmp"]
  pay-1:
    image: fedscore:local
    command: ["fedscore", "partner", "start", "/srv/fedscore/pay-1"]
    volumes: ["/srv/fedscore/pay-1:/srv/fedscore/pay-1"]
    restart: on-failure
    stop_grace_period: 60s
    read_only: true
    tmpfs: ["/tmp"]
"""


def image() -> str:
    """How the image of the Compose file is built, from a checkout of the repository."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"""# podman build -t fedscore:local -f {IMAGE} PATH-OF-THE-CHECKOUT
FROM python:{version}-slim
RUN apt-get update && apt-get install -y --no-install-recommends nginx make && rm -rf /var/lib/apt/lists/*
COPY . /opt/fedscore
RUN pip install --no-cache-dir -c /opt/fedscore/constraints.txt -e /opt/fedscore
"""
