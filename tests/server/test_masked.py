"""Secure sums in a run: the coordinator gets the same blocks but no update, and goes on while enough partners do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from scipy import stats

from clients.app import app as client_app
from model import wire
from privacy.chain import Chain
from server.config import RunConfig
from server.failures import RunFailed
from server.masked import TOO_FEW, summed_domains
from server.phases import Programme
from server.roster import Roster
from simulations.loopback import FIRST_NODE, LoopbackGrid

Tamper = Callable[[str, Message, int], str | None]
FEATURE = {"name": "x", "kind": "numeric", "range": [-3, 3], "group": "g"}


@pytest.fixture
def shared(write_federation: Any, party: Any, persons: Any, quick: None) -> Callable[[int], Path]:
    """Writes a federation whose domain `payments` that many partners share, each with persons of its own and common."""
    del quick

    def write(partners: int) -> Path:
        labels, risk = persons(300)
        rng = np.random.default_rng(1)
        parties = []
        for i in range(partners):
            mine = (np.arange(300) % partners == i) | (rng.random(300) < 0.3)
            table = labels.select("id").with_columns(x=risk + 0.1 * rng.normal(size=300)).filter(mine)
            parties.append(party(f"pay-{i + 1}", table, [FEATURE]))
        path: Path = write_federation(labels, *parties, privacy="epsilon = 4.0").federation
        return path

    return write


@dataclass
class Run:
    """One programme over an in-process grid that overhears every reply."""

    federation: Path
    out: Path
    partners: int
    config: dict[str, Any]
    tamper: Tamper = lambda name, message, nth: None
    replies: list[tuple[str, str, Message]] = field(default_factory=list)
    death: tuple[str, int] = ("never", 0)

    def go(self) -> Any:
        settings = {"federation": str(self.federation), "out": str(self.out), "wait": 0.1, **self.config}
        count, seen = self.partners + 1, {}
        nodes = [{"partition-id": i, "num-partitions": count} for i in range(count)]
        names = {FIRST_NODE + i: f"pay-{i}" if i else "lender" for i in range(count)}

        def tamper(node: int, message: Message) -> str | None:
            kind = message.metadata.message_type
            seen[node, kind] = seen.get((node, kind), 0) + 1
            return self.tamper(names[node], message, seen[node, kind])

        grid = LoopbackGrid(client_app, nodes, settings, tamper)
        deliver, replies = grid._deliver, self.replies

        def overheard(message: Message) -> Message | None:
            if self.death == ("before", len(replies) + 1):
                raise KeyboardInterrupt
            reply = deliver(message)
            if self.death == ("after", len(replies) + 1):
                raise KeyboardInterrupt
            if reply is not None:
                replies.append((names[message.metadata.dst_node_id], message.metadata.message_type, reply))
            return reply

        grid._deliver = overheard  # type: ignore[method-assign]
        self.programme = Programme(grid, RunConfig.parse(settings))
        return self.programme.run()

    def charges(self, name: str) -> int:
        return sum(row.kind == "plan" for row in Chain(self.out / "nodes" / name / "ledger.db").checked())

    def draws(self, name: str, line: str) -> list[str]:
        rows = Chain(self.out / "nodes" / name / "ledger.db").checked()
        return [str(r.body["part"]) for r in rows if r.kind == "claim" and r.body["line"] == line]

    def sent(self, kind: str) -> list[tuple[str, Message]]:
        return [(name, reply) for name, told, reply in self.replies if told == kind]


@pytest.fixture
def run(shared: Callable[[int], Path], tmp_path: Path) -> Callable[..., Run]:
    """Makes a run of so many partners; further ones are of the same federation."""
    made: dict[int, Path] = {}

    def make(partners: int, tamper: Tamper = lambda name, message, nth: None, out: str = "out", **config: Any) -> Run:
        path = made.setdefault(partners, shared(partners)) if partners not in made else made[partners]
        return Run(
            path, tmp_path / out, partners, {"secure-sum": "on", "epsilon": "inf", "rounds": 2, **config}, tamper
        )

    return make


def _silent(name: str, kind: str, nth: int) -> Tamper:
    """Loses every message of a kind to one partner from the nth on."""

    def tamper(node: str, message: Message, number: int) -> str | None:
        return "silent" if (node, message.metadata.message_type) == (name, kind) and number >= nth else None

    return tamper


def _weights(outcome: Any) -> np.ndarray:
    return np.asarray(outcome.bundle.blocks["payments"].weights)


def test_the_published_block_is_that_of_plain_updates_to_the_step_of_the_grid(run: Any) -> None:
    hidden, plain = run(2).go(), run(2, out="plain", **{"secure-sum": "off"}).go()
    assert np.abs(_weights(hidden) - _weights(plain)).max() < 1e-8
    assert hidden.bundle.statement["epsilon"] == plain.bundle.statement["epsilon"]


def _words(made: Any) -> list[np.ndarray]:
    """What the partners' replies to training hold: masked words and nothing else."""
    made.go()
    trained = [(name, reply) for name, reply in made.sent(wire.TRAIN) if name != "lender"]
    assert len(trained) == 3 * 2
    words = []
    for _, reply in trained:
        assert not reply.content.array_records
        record = reply.content.config_records[wire.CONFIG]
        assert set(record) == {wire.JSON, wire.MASKED}
        words.append(np.frombuffer(record[wire.MASKED], "<u8"))
    return words


def _fair(words: list[np.ndarray]) -> bool:
    bits = np.unpackbits(np.concatenate(words).view(np.uint8))
    return bool(stats.binomtest(int(bits.sum()), len(bits)).pvalue > 1e-4)


def test_no_update_is_in_any_reply_and_what_is_sent_is_uniform(run: Any) -> None:
    words = _words(run(3))
    for a in range(len(words)):  # a mask that served twice, or none, shows in a small difference
        for b in range(a):
            assert (np.abs((words[a] - words[b]).view(np.int64)) > 2.0**53).mean() > 0.9
    assert _fair(words) or _fair(_words(run(3, out="again")))  # by chance unfair once in 10^4, and twice in 10^8


def test_a_partner_that_falls_away_is_left_out_and_the_others_are_summed(run: Any) -> None:
    """Four partners, threshold three: from round 2 on the mean is that of three, as without masks."""
    lost = _silent("pay-4", wire.TRAIN, 2)
    hidden, plain = run(4, lost), run(4, lost, out="plain", **{"secure-sum": "off"})
    weights = _weights(hidden.go())
    assert np.abs(weights - _weights(plain.go())).max() < 1e-8
    assert len(hidden.sent(wire.MASK_KEYS)) == 4  # no fresh keys were needed
    assert hidden.programme.exchange.failures == {"pay-4": "silent"}


def test_below_the_threshold_the_round_is_summed_anew_with_the_stored_updates(run: Any) -> None:
    lost = _silent("pay-2", wire.TRAIN, 1)
    hidden = run(3, lost, epsilon=4.0)
    hidden.go()
    assert [len(hidden.sent(kind)) for kind in (wire.MASK_KEYS, wire.MASK_SHARES)] == [3 + 2, 3 + 2]
    assert [hidden.charges(f"pay-{i}") for i in (1, 3)] == [1, 1]
    for name in ("pay-1", "pay-3"):  # noise was drawn once for each round, whatever was summed twice
        assert hidden.draws(name, f"payments/{name}") == ["1", "2"]


@pytest.mark.parametrize("kind", [wire.MASK_KEYS, wire.MASK_SHARES])
def test_who_gives_no_keys_is_out_before_anything_is_trained(run: Any, kind: str) -> None:
    made = run(3, _silent("pay-1", kind, 1))
    made.go()
    assert {name for name, _ in made.sent(wire.TRAIN)} == {"pay-2", "pay-3"}
    assert made.programme.exchange.failures == {"pay-1": "silent"}


def test_who_falls_away_after_sending_is_in_the_sum_all_the_same(run: Any) -> None:
    whole = _weights(run(4, out="plain", **{"secure-sum": "off"}).go())
    for kind in (wire.SUM_AGREE, wire.SUM_REVEAL):
        made = run(4, _silent("pay-3", kind, 2), out=kind)  # in the last round
        assert np.abs(_weights(made.go()) - whole).max() < 1e-8


@pytest.mark.parametrize("kind", [wire.TRAIN, wire.SUM_AGREE])
def test_one_partner_alone_shows_nothing(run: Any, kind: str) -> None:
    made = run(2, _silent("pay-2", kind, 1))
    with pytest.raises(RunFailed, match="no block was trained"):
        made.go()
    assert made.programme.exchange.failures == {"pay-1": TOO_FEW, "pay-2": "silent"}
    assert not any(reply.content.array_records for _, reply in made.sent(wire.TRAIN))


def test_half_of_the_partners_are_too_few_to_be_summed_anew(run: Any) -> None:
    """Four share the block: two that are left might be one and a colluder."""

    def lost(name: str, message: Message, nth: int) -> str | None:
        return "silent" if name in ("pay-3", "pay-4") and message.metadata.message_type == wire.TRAIN else None

    made = run(4, lost)
    with pytest.raises(RunFailed, match="no block was trained"):
        made.go()
    assert made.programme.exchange.failures == {
        "pay-1": TOO_FEW, "pay-2": TOO_FEW, "pay-3": "silent", "pay-4": "silent"
    }  # fmt: skip
    assert made.sent(wire.SUM_AGREE) == []


def test_with_stop_a_lost_partner_ends_the_run(run: Any) -> None:
    made = run(4, _silent("pay-4", wire.SUM_AGREE, 1), **{"on-failure": "stop"})
    with pytest.raises(RunFailed, match=r"stopped, as configured: pay-4 \(silent\)"):
        made.go()


def test_an_attempt_after_a_death_sums_the_same_updates_again(run: Any) -> None:
    """The coordinator dies once the first sums are open; the next attempt charges and reveals nothing else."""

    def die(name: str, message: Message, nth: int) -> str | None:
        if message.metadata.message_type == wire.TRAIN and nth == 2:
            raise KeyboardInterrupt
        return None

    cut = run(3, die, epsilon=4.0)
    with pytest.raises(KeyboardInterrupt):
        cut.go()
    again = run(3, epsilon=4.0)
    again.go()
    for kind in (wire.SUM_REVEAL, wire.MASK_KEYS, wire.MASK_SHARES):
        before = {(n, _parts(r)) for n, r in cut.sent(kind)}
        assert before
        assert before <= {(n, _parts(r)) for n, r in again.sent(kind)}
    assert [again.charges(f"pay-{i}") for i in (1, 2, 3)] == [1, 1, 1]


def _parts(reply: Message) -> tuple[tuple[str, bytes], ...]:
    record = reply.content.config_records[wire.CONFIG]
    return tuple(sorted((k, v) for k, v in record.items() if isinstance(v, bytes)))


def test_which_domains_are_summed(small: Path, stage: Any) -> None:
    at: Roster = stage(small).roster
    assert summed_domains(at, "off") == summed_domains(at, "auto") == ()
    assert summed_domains(at, "on") == ("ecommerce",)
    third = replace(at.members["shop-2"], name="shop-3")
    terms = replace(at.terms, partners=(*at.terms.partners, "shop-3"))
    assert summed_domains(Roster({**at.members, "shop-3": third}, terms), "auto") == ("ecommerce",)


def test_another_setting_is_refused() -> None:
    from model.inputs import InputError

    with pytest.raises(InputError, match=r"secure-sum.*off \| auto \| on"):
        RunConfig.parse({"secure-sum": "yes"})


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_at_any_message_of_a_sum_ends_in_the_same_block(run: Any, moment: str) -> None:
    """Before a message is delivered, or once it is answered and the answer lost with the coordinator."""
    whole = run(3, out="whole", epsilon=4.0)
    whole.go()
    for at in range(1, len(whole.replies) + 1):
        cut = run(3, out=f"{moment}-{at}", epsilon=4.0)
        cut.death = (moment, at)
        with pytest.raises(KeyboardInterrupt):
            cut.go()
        again = run(3, out=f"{moment}-{at}", epsilon=4.0)
        again.go()
        assert again.programme.exchange.failures == {}, at
        for i in (1, 2, 3):
            assert again.charges(f"pay-{i}") == 1
            assert again.draws(f"pay-{i}", f"payments/pay-{i}") == ["1", "2"]
        shown = {kind: _shown(cut, kind) | _shown(again, kind) for kind in (wire.SUM_AGREE, wire.SUM_REVEAL)}
        assert {kind: len(found) for kind, found in shown.items()} == dict.fromkeys(shown, 3 * 2), at


def _shown(made: Run, kind: str) -> set[tuple[str, tuple[tuple[str, bytes], ...]]]:
    return {(name, _parts(reply)) for name, reply in made.sent(kind)}
