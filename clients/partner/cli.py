"""`fedscore partner`: what an engineer of a data holder does, from the first key to the last word."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from clients.partner.folder import HASH, Folder
from clients.partner.score_cli import Dir, score
from model.inputs import InputError
from privacy.enrolment import fingerprint

partner = typer.Typer(no_args_is_help=True, help="A data holder's node: join a federation, run, look, leave.")

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@partner.command("init")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    name: Annotated[str, typer.Option(help="The holder's name in the federation file; `lender` for the lender.")],
    domain: Annotated[str, typer.Option(help="Its domain; by default what the federation file says.")] = "",
    federation: Annotated[Path | None, typer.Option(help="The public federation file, contracts beside it.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="A data file, instead of the federation file's.")] = None,
) -> None:
    """Make keys, a node file to edit, and the request to send to the coordinator.

    Example: fedscore partner init pay-1 --name pay-1 --federation federation.toml --data payments.parquet
    """
    from clients.partner import joining

    made = joining.make(folder, joining.Wish(name, domain, federation, tuple(data or ())))
    _say(f"{made.node.path}: read it, and set your own limits")
    _say(f"{made.request}: send it to the coordinator; it holds no secret")
    _say(f"fingerprint of {name}: {fingerprint(joining.request_of(made).holder.verify)}")
    _say("tell the coordinator the fingerprint over another channel, a phone call for example")


@partner.command("renew")
def renew(
    folder: Dir,
    new_keys: Annotated[bool, typer.Option("--new-keys", help="Make new keys; the older ones are put aside.")] = False,
) -> None:
    """Write the request anew: after a contract's next version, where it was lost, or with new keys.

    With new keys the node answers nobody until the coordinator enrolled them (--replace) and it joined again.

    Example: fedscore partner renew pay-1
    """
    from clients.partner import joining, standing

    own = Folder.open(folder)
    if new_keys:
        with standing.alone(own):
            joining.renew(own, new_keys)
    else:
        joining.renew(own)
    _say(f"{own.request}: send it to the coordinator")
    _say(f"fingerprint of {own.node.holder}: {fingerprint(joining.request_of(own).holder.verify)}")


@partner.command("check")
def check(
    folder: Dir,
    language: Annotated[str, typer.Option(help="en | zh")] = "en",
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the coordinator.")] = False,
) -> None:
    """Compare the data with the contract, and look at keys, disk, port, ledger, certificates and clock.

    Ends with 1 where something must be mended. No value and no id of a person is ever shown.

    Example: fedscore partner check pay-1
    """
    from clients.partner import checking
    from clients.partner.words import LANGUAGES, Term

    if language not in LANGUAGES:
        raise InputError("command line", "--language", "must be " + " or ".join(LANGUAGES), language)
    sections = checking.examine(Folder.open(folder), not offline)
    for title, findings in sections.items():
        _say(f"{Term(title).text(language)}:")
        for finding in findings:
            _say(f"  {finding.mark(language)} {finding.text(language)}")
    fails = sum(finding.ok is False for findings in sections.values() for finding in findings)
    _say(Term("result.fails" if fails else "result.good", {"count": fails}).text(language))
    if fails:
        raise typer.Exit(1)


@partner.command("join")
def join(
    folder: Dir,
    welcome: Annotated[Path, typer.Argument(help="The coordinator's welcome for this holder.")],
    yes: Yes = False,
    expected: Annotated[
        str, typer.Option("--fingerprint", help="The coordinator's fingerprint, as told over another channel.")
    ] = "",
) -> None:
    """Compare the coordinator's welcome with what is known, and believe it after confirmation.

    Example: fedscore partner join pay-1 pay-1.welcome.json --fingerprint "0f3a 91bc …"
    """
    from clients.partner import joining

    own = Folder.open(folder)
    offer = joining.read(own, welcome)
    if not offer.changes:
        _say(f"{own.root}: welcome {offer.welcome.number} of {offer.welcome.federation} changes nothing")
    else:
        _say(f"welcome {offer.welcome.number} of the federation {offer.welcome.federation}:")
        for line in offer.changes:
            _say(f"  {line}")
    key = fingerprint(offer.welcome.coordinator)
    if expected and _plain(expected) != _plain(key):
        remedy = "do not join: ask the coordinator who signed this file"
        raise InputError("command line", "--fingerprint", f"is not the coordinator's, which is {key}", None, remedy)
    if offer.rekeyed and not expected:
        rule = "must be given, as another key than before signed this welcome"
        raise InputError("command line", "--fingerprint", rule, remedy="ask the coordinator over another channel")
    if offer.changes and not (yes or expected):
        _confirm("Are these the fingerprints that you were told over another channel?")
    joining.accept(own, offer.welcome, offer.text)
    if offer.changes:
        _say(f"{own.root}: joined; next: `fedscore partner check {own.root}`, then `start`")


@partner.command("allow")
def allow(
    folder: Dir,
    digest: Annotated[str, typer.Argument(metavar="HASH", help="As `fedscore bundle` prints it, or a model's.")],
    model: Annotated[
        bool, typer.Option("--model", help="HASH names a model version, to score new persons with.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Let an app bundle run on this node, or a model version that it never trained score with its data.

    Example: fedscore partner allow pay-1 3f1b…
    """
    from clients import published

    own, digest = Folder.open(folder), digest.strip().lower()
    if not HASH.fullmatch(digest):
        remedy = "give all 64 hexadecimal digits"
        raise InputError("command line", "HASH", "is no SHA-256", digest, remedy)
    if not model and digest in own.bundles():
        _say(f"{digest} may run here already")
        return
    if not yes:
        _say(f"{'model' if model else 'code'} to allow    {digest}")
        _confirm(
            "Do you know who trained it, and that its weights were not made up to read your data out?"
            if model
            else "Did you build it from sources that you read, and got this hash?"
        )
    if model:
        published.allow(own.node.durable, digest)
        _say(f"{own.node.durable}: new persons may be scored with {digest}")
        return
    own.allow(digest, f"allowed by hand on {time.strftime('%Y-%m-%d')}")
    _say(f"{own.allowed}: {digest} may run here")


@partner.command("start")
def start(
    folder: Dir,
    background: Annotated[bool, typer.Option("--background", help="Return, and leave the node running.")] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to get the first connection in; 0: for ever.")
    ] = 180.0,
) -> None:
    """Run the node: only bundles on the holder's own list, by the rules of its own file.

    Example: fedscore partner start pay-1 --background
    """
    from clients.partner import running

    own = Folder.open(folder)
    if not background:
        code = running.serve(own, _say, patience)
        if code:
            raise typer.Exit(code)
        return
    child = running.start_behind(own, patience)
    told = running.await_first(own, child)
    _say(f"{own.root}: {told}")
    if child.poll() is not None:
        raise typer.Exit(1)


@partner.command("stop")
def stop(folder: Dir) -> None:
    """End the running node; the coordinator sees it go at once.

    Example: fedscore partner stop pay-1
    """
    from clients.partner import standing

    own = Folder.open(folder)
    _say(f"{own.root}: " + ("stopped" if standing.stop(own) else "was not running"))


@partner.command("status")
def status(folder: Dir) -> None:
    """Say whether the node runs, when the coordinator last answered, and what the ledger has; 1 where it is cut off.

    Example: fedscore partner status pay-1
    """
    from clients.partner import standing

    lines, sound = standing.report(Folder.open(folder))
    for line in lines:
        _say(line)
    if not sound:
        raise typer.Exit(1)


@partner.command("ledger")
def ledger(folder: Dir) -> None:
    """Show the holder's own ledger, as `fedscore ledger show` does.

    Example: fedscore partner ledger pay-1
    """
    from clients.ledger_cli import show

    own = Folder.open(folder)
    if not own.ledger.exists():
        _say(f"{own.ledger}: not there yet: no run has been charged, nothing is spent")
        return
    show(own.ledger)


partner.command("score")(score)


@partner.command("leave")
def leave(folder: Dir, yes: Yes = False) -> None:
    """Stop the node, export the ledger, and forget the coordinator; keys and ledger stay.

    Example: fedscore partner leave pay-1
    """
    from clients.partner import leaving

    own = Folder.open(folder)
    own.node.trust()
    if not yes:
        _confirm(f"Leave the federation {own.node.trust().federation}?")
    for line in leaving.leave(own):
        _say(line)


def _plain(text: str) -> str:
    return "".join(text.split()).lower()


def _confirm(question: str) -> None:
    try:
        sure = typer.confirm(question)
    except typer.Abort:
        sure = False
    if not sure:
        remedy = "answer y, or give --yes (or --fingerprint) where nobody can be asked"
        raise InputError(
            "command line", "", "the question was not answered with yes: nothing was changed", None, remedy
        )


def _say(text: str) -> None:
    typer.echo(text)
