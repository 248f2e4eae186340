"""Deciding a book of requests as a stream: what is in memory does not grow with the rows, and nothing is half-written.

Answers are in the order of the rows. `--out` ending in `.jsonl` takes the decisions as canonical JSON, one a line;
`.parquet` takes a table with the columns that are looked at most, and the whole decision as JSON text.
"""

from __future__ import annotations

import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

import polars as pl

from model.bundle import decision_bundle
from model.inputs import InputError, read_text
from model.limits.decision import Decision
from model.limits.fields import canonical
from model.limits.policy import load_policy
from model.limits.request import StateSnapshot, parse_state
from model.limits.schema import Policy
from model.limits.strict_json import loads
from model.limits.table import DecisionBundle
from server.books import Row, parse, rows, seen_ids

COLUMNS = {
    "request_id": pl.String,
    "decision": pl.String,
    "amount_fen": pl.Int64,
    "apr_bp": pl.Int32,
    "score": pl.Int16,
    "band": pl.String,
    "confidence": pl.String,
    "binding_cap": pl.String,
    "reasons": pl.String,
    "reasons_zh": pl.String,
    "reasons_en": pl.String,
    "json": pl.String,
}
_CHUNK = 256
_PART = 10_000
_Fault = tuple[str, str, str, object, str]  # the arguments of an `InputError`, which go from process to process


@dataclass(frozen=True)
class Batch:
    """What is to be decided, by what, and how.

    Attributes:
        model: folder of the published model.
        requests: the book.
        policy: its file; None is the shipped one.
        state: JSON file of the account, for rows without a state of their own.
        explain: whether to find the next steps.
        table: whether the answers' columns are wanted beside their JSON.
    """

    model: Path
    requests: Path
    policy: Path | None = None
    state: Path | None = None
    explain: bool = True
    table: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One decision as it is written."""

    request_id: str
    json: bytes
    columns: tuple[object, ...]


@dataclass(frozen=True)
class Desk:
    """Policy, model and default account of a batch, loaded once for each process."""

    batch: Batch
    policy: Policy
    bundle: DecisionBundle
    account: StateSnapshot

    @classmethod
    def of(cls, batch: Batch) -> Desk:
        """Loads them; raises `InputError` naming the first file that is wrong."""
        return cls(batch, load_policy(batch.policy), decision_bundle(batch.model), account_of(batch.state))

    def answers(self, chunk: list[Row]) -> list[Answer | _Fault]:
        """An answer for each row, or why there is none."""
        return [self._answer(row) for row in chunk]

    def _answer(self, row: Row) -> Answer | _Fault:
        try:
            decision = parse(row, self.account).decide(self.policy, self.bundle, explain=self.batch.explain)
        except InputError as error:
            return error.file, error.field, error.rule, error.value, error.remedy
        text = decision.to_json()
        return Answer(decision.request_id, text, columns_of(decision, text) if self.batch.table else ())


@dataclass(frozen=True)
class Done:
    """How many rows were decided, and how many were not."""

    decided: int
    refused: int


def account_of(path: Path | None) -> StateSnapshot:
    """The account of a JSON file; without one, that of a new customer."""
    return parse_state(loads(read_text(path), path), path) if path else StateSnapshot()


def columns_of(decision: Decision, text: bytes) -> tuple[object, ...]:
    """The values of `COLUMNS`."""
    d = decision
    codes, zh, en = zip(*((r.code, r.zh, r.en) for r in d.reasons), strict=True) if d.reasons else ((), (), ())
    first = (d.request_id, d.decision, d.amount_fen, d.apr_bp, d.score, d.band, d.confidence, d.binding_cap)
    return (*first, "+".join(codes), ";".join(zh), "; ".join(en), text.decode())


def run(batch: Batch, out: Path | None, skipped: Path | None = None, jobs: int = 1) -> Done:
    """Decides the whole book.

    Args:
        batch: what and how.
        out: `.jsonl` or `.parquet`, not there yet; None prints JSON Lines once all is decided.
        skipped: where bad rows are told of; None stops at the first one.
        jobs: processes.

    Raises:
        InputError: the first bad row, where none is skipped or all were bad; nothing is written then.
    """
    done, refused, first = 0, 0, None
    with ExitStack() as stack:
        seen, write = stack.enter_context(seen_ids()), stack.enter_context(_sink(out))
        told: IO[bytes] | None = None
        for row, answer in _answered(batch, jobs):
            try:
                if not isinstance(answer, Answer):
                    raise InputError(*answer)
                seen.add(answer.request_id, row)
            except InputError as error:
                if skipped is None:
                    raise
                refused, first = refused + 1, first or error
                told = told or stack.enter_context(part_of(skipped))
                told.write(canonical({"place": row.place, "field": error.field, "rule": error.rule}) + b"\n")
                continue
            done += 1
            write(answer)
        if first is not None and not done:
            raise first
    return Done(done, refused)


def _answered(batch: Batch, jobs: int) -> Iterator[tuple[Row, Answer | _Fault]]:
    """Every row with its answer, in order."""
    desk = Desk.of(batch)
    found = rows(batch.requests)
    chunks = iter(lambda: list(islice(found, _CHUNK)), [])
    if jobs == 1:
        for chunk in chunks:
            yield from zip(chunk, desk.answers(chunk), strict=True)
        return
    # spawned, not forked: polars has threads
    with ProcessPoolExecutor(jobs, get_context("spawn"), _open, (batch,)) as pool:
        waiting: deque[tuple[list[Row], Future[list[Answer | _Fault]]]] = deque()
        try:
            for chunk in chunks:
                waiting.append((chunk, pool.submit(_answers, chunk)))
                if len(waiting) > 2 * jobs:
                    yield from _next(waiting)
            while waiting:
                yield from _next(waiting)
        finally:
            pool.shutdown(cancel_futures=True)


def _next(waiting: deque[tuple[list[Row], Future[list[Answer | _Fault]]]]) -> Iterable[tuple[Row, Answer | _Fault]]:
    chunk, answers = waiting.popleft()
    return zip(chunk, answers.result(), strict=True)


_desks: list[Desk] = []  # of this worker process: one, opened before its first chunk


def _open(batch: Batch) -> None:
    _desks[:] = [Desk.of(batch)]


def _answers(chunk: list[Row]) -> list[Answer | _Fault]:
    return _desks[0].answers(chunk)


@contextmanager
def part_of(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when all is written, and is gone where that fails.

    Raises:
        InputError: it is there already, or its folder does not take it.
    """
    if path.exists():
        raise InputError(path, "", "exists already", remedy="give another --out")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise InputError(path, "", f"cannot be written ({error.strerror})", remedy="check the folder") from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _sink(out: Path | None) -> Iterator[Callable[[Answer], None]]:
    """What takes the answers one by one."""
    if out is None:
        with TemporaryFile() as spool:
            yield lambda answer: _line(spool, answer)
            spool.seek(0)
            shutil.copyfileobj(spool, sys.stdout.buffer)
    elif out.suffix == ".jsonl":
        with part_of(out) as file:
            yield lambda answer: _line(file, answer)
    elif out.suffix == ".parquet":
        with part_of(out) as file, _tables(out, file) as write:
            yield write
    else:
        raise InputError(out, "", "must end in .jsonl or .parquet")


def _line(file: IO[bytes], answer: Answer) -> None:
    file.write(answer.json + b"\n")


@contextmanager
def _tables(out: Path, file: IO[bytes]) -> Iterator[Callable[[Answer], None]]:
    """Writes tables of some thousand rows beside `out`, and joins them in the end."""
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        paths: list[Path] = []
        waiting: list[tuple[object, ...]] = []

        def flush() -> None:
            paths.append(Path(folder) / f"{len(paths)}.parquet")
            pl.DataFrame(waiting, COLUMNS, orient="row").write_parquet(paths[-1])
            waiting.clear()

        def write(answer: Answer) -> None:
            waiting.append(answer.columns)
            if len(waiting) == _PART:
                flush()

        yield write
        if waiting:
            flush()
        pl.scan_parquet(paths, glob=False).sink_parquet(file, row_group_size=_PART)
