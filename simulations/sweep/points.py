"""One point of a curve, as `rows.CURVES` names its parts; the cell's key is put in front of it later."""

from __future__ import annotations

from typing import Any

Point = dict[str, Any]


def point(
    curve: str, group: str = "", at: float | None = None, value: float | None = None, **more: float | None
) -> Point:
    """One row of a curve: `low`, `high` and `weight` may be given too.

    >>> point("releases", "fusion/weights", value=0.5)["value"]
    0.5
    """
    return {"curve": curve, "group": group, "at": at, "value": value, "low": None, "high": None, "weight": None, **more}
