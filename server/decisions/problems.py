"""What the service refuses, as RFC 9457 problem documents: a stable code, a sentence, and the field that is wrong."""

from __future__ import annotations

from typing import Any

from model.inputs import InputError
from model.limits.policy import NotInForce

_TITLES = {
    400: "The request cannot be read",
    401: "Who asks is not known",
    403: "Not allowed for this role",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflicts with what is there",
    413: "Too large",
    415: "Wrong media type",
    422: "The request breaks a rule",
    429: "Too many requests",
    500: "The service failed",
    503: "Not available now",
}


class Refused(Exception):
    """A refusal with its HTTP status; it is raised before anything is written.

    >>> Refused(409, "in_flight", "The same key is being answered.").status
    409
    """

    def __init__(self, status: int, code: str, detail: str, field: str | None = None) -> None:
        self.status, self.code, self.detail, self.field = status, code, detail, field
        super().__init__(detail)

    @property
    def headers(self) -> dict[str, str]:
        """What HTTP says beside the document."""
        return {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "60"}}.get(self.status, {})

    def document(self) -> dict[str, Any]:
        """The problem document; `field` only where one is wrong."""
        said: dict[str, Any] = {"type": f"urn:fedscore:problem:{self.code}", "title": _TITLES.get(self.status, "Error")}
        said |= {"status": self.status, "code": self.code, "detail": self.detail}
        return said | ({"field": self.field} if self.field else {})


def refusal(error: InputError | NotInForce) -> Refused:
    """The refusal that an error of the core is.

    The value that was given is not repeated: it may be about a person.

    >>> refusal(InputError("request", "kyc.age_years", "must be from 0 to 150", 151)).document()["field"]
    'kyc.age_years'
    """
    if isinstance(error, NotInForce):
        return Refused(503, "not_in_force", f"{error}.")
    what = f"{error.field} {error.rule}" if error.field else error.rule
    todo = f"; {error.remedy}" if error.remedy else ""
    return Refused(422, "invalid", f"{what}{todo}.", error.field or None)
