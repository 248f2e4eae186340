"""Counters for Prometheus: of the whole service, never of a person."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """One service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._decisions = Counter(
            "fedscore_decisions", "Decisions made, by outcome and cause.", ["outcome", "cause"], registry=self._registry
        )
        self._requests = Histogram(
            "fedscore_request_seconds",
            "Time to answer, by method, route and status.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._commits = Histogram(
            "fedscore_commit_seconds", "Time of a durable commit.", buckets=_SECONDS, registry=self._registry
        )
        self._group = Histogram(
            "fedscore_commit_jobs", "Jobs in one commit.", buckets=(1, 2, 4, 8, 16, 64, 256), registry=self._registry
        )
        self.ready = Gauge("fedscore_ready", "1 while decisions can be made.", registry=self._registry)

    def decided(self, outcome: str, cause: str) -> None:
        """Counts a decision."""
        self._decisions.labels(outcome, cause).inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answer; `route` is the template, which holds no reference of a person."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def committed(self, jobs: int, seconds: float) -> None:
        """Counts a commit."""
        self._commits.observe(seconds)
        self._group.observe(jobs)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
