"""The catalogue of reasons and next steps in Chinese and English, and how one becomes a sentence.

The texts are data, in `reasons.toml`. Domains and feature groups that it does not name are called by their own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from model.inputs import read_toml
from model.limits.fields import Name, Text, read

MAX_REASONS = 4

_Sentence = Annotated[str, Text(".{1,300}", "must be one line of text")]
_Code = Annotated[str, Text("[A-Z][A-Z0-9_]+", "must be a code in capitals")]
_FILE = Path(__file__).with_name("reasons.toml")


@dataclass(frozen=True, slots=True)
class Wording:
    """One text in both languages; `partner`: a data holder may give it for its own block."""

    zh: _Sentence
    en: _Sentence
    partner: bool = False


@dataclass(frozen=True)
class Catalogue:
    """All texts by code or name."""

    reason: Mapping[_Code, Wording]
    step: Mapping[_Code, Wording]
    improve: Mapping[Name, Wording]
    domain: Mapping[Name, Wording]
    group: Mapping[Name, Wording]


CATALOGUE = read(Catalogue, read_toml(_FILE), _FILE)
PARTNER_CODES = frozenset(code for code, wording in CATALOGUE.reason.items() if wording.partner)
IMPROVEMENT_CODES = frozenset(CATALOGUE.improve)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision is as it is: a code, its sentence, and whose data or rule it comes from."""

    code: str
    zh: str
    en: str
    source: str


def reason(code: str, source: str = "rule", *, group: str = "", deadline: datetime | None = None) -> Reason:
    """The reason of a code, its sentence filled in.

    Args:
        code: of the catalogue.
        source: `rule`, `system`, or the domain whose data it speaks of.
        group: the feature group, where the sentence names one.
        deadline: the instant, where the sentence names one.

    >>> reason("S03", "payments", group="repayment").en
    'Your payments records lowered the score: repayment history'
    >>> reason("S02", "mobile_phone").zh
    'mobile phone记录整体拉低了评分'
    """
    return _reason(code, source, group, minute(deadline) if deadline else "")


@lru_cache(maxsize=4096)
def _reason(code: str, source: str, group: str, deadline: str) -> Reason:
    """Kept by the deadline's text: instants of two zones are equal, and their sentences are not."""
    zh, en = wording(CATALOGUE.reason[code], domain=source, group=group, values={"deadline": deadline})
    return Reason(code, zh, en, source)


def wording(
    text: Wording, *, domain: str, group: str = "", what: Sequence[Wording] = (), values: Mapping[str, str]
) -> tuple[str, str]:
    """A text in Chinese and English with its places filled in; `domain` may be several, joined by `+`.

    `what` are phrases that stand in both languages, joined by "and".

    >>> wording(Wording("{domain}:{amount}", "{domain}: {amount}"), domain="payments", values={"amount": yuan(50_000)})
    ('支付:¥500', 'payments: ¥500')
    """
    if "{" not in text.zh:
        return text.zh, text.en
    place, part = _named(CATALOGUE.domain, domain), _named(CATALOGUE.group, group)
    zh = text.zh.format(domain=place.zh, group=part.zh, what="并".join(w.zh for w in what), **values)
    return zh, text.en.format(domain=place.en, group=part.en, what=" and ".join(w.en for w in what), **values)


def yuan(fen: int) -> str:
    """An amount as customers read it.

    >>> yuan(1_234_500), yuan(1_050)
    ('¥12,345', '¥10.50')
    """
    whole, rest = divmod(fen, 100)
    return f"¥{whole:,}.{rest:02}" if rest else f"¥{whole:,}"


def minute(instant: datetime) -> str:
    """An instant to the minute, with its offset.

    >>> minute(datetime.fromisoformat("2026-11-26T10:00:00+08:00"))
    '2026-11-26 10:00+08:00'
    """
    return instant.isoformat(sep=" ", timespec="minutes")


def _named(names: Mapping[str, Wording], name: str) -> Wording:
    """The wording of one name, or of several joined by `+`."""
    found = [names.get(part) or Wording(part.replace("_", " "), part.replace("_", " ")) for part in name.split("+")]
    return Wording("、".join(part.zh for part in found), " and ".join(part.en for part in found))
