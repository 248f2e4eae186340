"""The decision service under load: open loop, as applicants come, whether or not earlier ones were answered.

Latency is from the moment a request was due, not from when it was sent: a service that falls behind shows it.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

CONNECTIONS = 50
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """What a load run showed: milliseconds by percentile, statuses, and the service's CPU milliseconds a request."""

    p50: float
    p90: float
    p99: float
    worst: float
    statuses: dict[str, int]
    cpu_ms: float


def load(model: Path, rate: int = 300, seconds: int = 20) -> Load:
    """Starts `fedscore serve` on a fresh SQLite database and sends it requests of new applicants.

    Args:
        model: folder of a published model.
        rate: requests a second.
        seconds: for how long; two more before it are not counted.
    """
    head = json.loads((model / "bundle.json").read_text(encoding="utf-8"))["fusion"]
    with (
        tempfile.TemporaryDirectory(prefix="fedscore-bench-") as folder,
        _service(model, Path(folder)) as (pid, port, token),
    ):
        asyncio.run(_send(port, _requests(head, token, 2 * rate), rate))
        before = _cpu_seconds(pid)
        times, statuses = asyncio.run(_send(port, _requests(head, token, seconds * rate), rate))
        spent = _cpu_seconds(pid) - before
    times.sort()
    p50, p90, p99, worst = (1000 * times[min(len(times) - 1, int(len(times) * part))] for part in (0.5, 0.9, 0.99, 1.0))
    return Load(p50, p90, p99, worst, dict(statuses), 1000 * spent / len(times))


@contextmanager
def _service(model: Path, folder: Path) -> Iterator[tuple[int, int, str]]:
    """The service as a process: its id, its port, and a key."""
    command = [sys.executable, "-c", "from simulations.cli import main; main()"]
    key = subprocess.run(
        [*command, "keys", "add", "bench", "--role", "service"], cwd=folder, check=True, capture_output=True, text=True
    )
    token = re.findall(r"fs_[\w-]+", key.stdout)[0]
    process = subprocess.Popen(
        [*command, "serve", str(model.resolve()), "--port", "0"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline() if process.stdout else ""
        yield process.pid, int(re.findall(r":(\d+)", line)[0]), token
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _requests(fusion: dict[str, Any], token: str, count: int) -> list[bytes]:
    """Whole HTTP requests of new applicants: all sorts of scores, incomes and coverages."""
    draw, now = random.Random(time.time_ns()), datetime.now(UTC).isoformat()
    return [_request(fusion, token, draw, now) for _ in range(count)]


def _request(fusion: dict[str, Any], token: str, draw: random.Random, now: str) -> bytes:
    fresh = {"covered": True, "consent": True, "as_of": now}
    body = {
        "request_id": str(UUID(int=draw.getrandbits(128), version=4)),
        "subject_ref": f"{draw.getrandbits(256):064x}",
        "purpose": "new",
        "product": "consumer",
        "requested_fen": draw.choice([None, 500_000, 3_000_000]),
        "term_months": 12,
        "kyc": {
            "passed": True,
            "age_years": draw.randint(18, 65),
            "segment": draw.choice(["salaried", "gig", "other"]),
            "income_fen_month": draw.choice([300_000, 600_000, 1_500_000]),
            "income_source": draw.choice(["verified", "declared"]),
            "existing_debt_service_fen_month": 0,
            "other_consumer_credit_fen": 0,
            "logit_e6": draw.randint(-3_500_000, -500_000) if fusion["own"] else None,
        },
        "blocks": {
            domain: {**fresh, "logit_e6": draw.randint(-4_000_000, -1_000_000), "tenure_months": draw.choice([3, 30])}
            for domain in fusion["optional"]
            if draw.random() < 0.75
        },
    }
    text = json.dumps(body).encode()
    head = [
        "POST /v1/decisions HTTP/1.1",
        "Host: bench",
        f"Authorization: Bearer {token}",
        f"Idempotency-Key: {body['request_id']}",
        f"Content-Length: {len(text)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + text


async def _send(port: int, requests: list[bytes], rate: int) -> tuple[list[float], Counter[str]]:
    """Sends each request when it is due, over the next free connection; seconds from due to answered, and statuses."""
    queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    times: list[float] = []
    statuses: Counter[str] = Counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (item := await queue.get()) is not None:
            due, request = item
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(answer)
            await reader.readexactly(int(found[1]) if found else 0)
            times.append(time.perf_counter() - due)
            statuses[answer[9:12].decode()] += 1
        writer.close()

    workers = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    begin = time.perf_counter() + 0.2
    for number, request in enumerate(requests):
        due = begin + number / rate
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        queue.put_nowait((due, request))
    for _ in workers:
        queue.put_nowait(None)
    await asyncio.gather(*workers)
    return times, statuses


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    import psutil

    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)
