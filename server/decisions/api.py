"""The HTTP interface: routes, errors as problem documents, logs and metrics without a person, and the desk's files."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.inputs import InputError
from model.limits.fields import canonical
from model.limits.policy import NotInForce
from server.decisions import routes_accounts, routes_batches, routes_decisions, routes_operations, routes_reviews
from server.decisions.problems import Refused, refusal
from server.decisions.records import ChainBroken
from server.decisions.service import Service
from server.decisions.vault import CannotUnseal, Forgotten
from server.decisions.what_if import Pace
from server.decisions.writer import StoreUnavailable

log = logging.getLogger("fedscore.decisions")
PROBLEM = "application/problem+json"
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_SECURITY = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
_NEVER_KEPT, _CHECKED = (b"cache-control", b"no-store"), (b"cache-control", b"no-cache")
_DESK = Path(__file__).with_name("desk")


def create_app(service: Service) -> FastAPI:
    """The app of a service; it serves until the service is closed."""
    app = FastAPI(title="fedscore decisions", version="1", docs_url=None, redoc_url=None)
    app.state.service, app.state.pace = service, Pace()
    for routes in (routes_decisions, routes_accounts, routes_reviews, routes_batches, routes_operations):
        app.include_router(routes.router)
    # FastAPI looks for parameters that this route has not: it only documents it
    app.router.routes.insert(0, Route("/v1/decisions", routes_decisions.decide, methods=["POST"]))
    app.mount("/desk", StaticFiles(directory=_DESK, html=True), name="desk")
    for kind in (Refused, InputError, NotInForce, HTTPException, RequestValidationError, Forgotten, DataError):
        app.add_exception_handler(kind, _expected)
    for broken in (StoreUnavailable, SQLAlchemyError, ChainBroken, CannotUnseal):
        app.add_exception_handler(broken, _broken)
    app.add_middleware(_Watched, service=service)
    return app


class _Watched:
    """Measures and logs each answer by its route's template, adds security headers, and turns a fault into a 500."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._metrics = app, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                keeping = _CHECKED if scope["path"].startswith("/desk/") else _NEVER_KEPT
                message["headers"] = [*message.get("headers", []), *_SECURITY, keeping]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:  # its words may hold what a person sent: only the kind is told
            log.error("failed", extra={"fields": {"error": type(error).__name__}})
            if status == 0:
                await _problem(Refused(500, "internal", "The service failed; nothing was carried out."))(
                    scope, receive, sent
                )
        self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.answered(scope["method"], route, status, seconds)
        caller = scope.get("state", {}).get("caller")
        fields = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "caller": caller,
        }
        log.info("answered", extra={"fields": fields})


def _expected(request: Request, error: Exception) -> Response:
    """What a caller did wrong, as a problem document."""
    del request
    if isinstance(error, Refused):
        return _problem(error)
    if isinstance(error, (InputError, NotInForce)):
        return _problem(refusal(error))
    if isinstance(error, Forgotten):
        return _problem(Refused(404, "erased", "The person was erased."))
    if isinstance(error, DataError):
        return _problem(Refused(422, "invalid", "A value is none that can be kept, such as a text with a NUL in it."))
    if isinstance(error, HTTPException):
        return _problem(Refused(error.status_code, "http", str(error.detail)))
    return _problem(Refused(422, "invalid", "A parameter of the address breaks its rule.", "query"))


def _broken(request: Request, error: Exception) -> Response:
    """What is wrong here, not with the caller: it may ask again."""
    del request
    log.error("unavailable", extra={"fields": {"error": type(error).__name__}})
    return _problem(Refused(503, "unavailable", "The store does not answer; nothing was carried out. Ask again."))


def _problem(refused: Refused) -> Response:
    return Response(canonical(refused.document()), refused.status, refused.headers, PROBLEM)
