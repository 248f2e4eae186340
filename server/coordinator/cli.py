"""The commands of a coordinator: make its folder, keep it up, let holders in and out, run, look."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.inputs import InputError, taking
from privacy.enrolment import fingerprint
from server.coordinator.folder import Coordinator

coordinator = typer.Typer(no_args_is_help=True, help="A federation's coordinator: set up, keep up, enrol, run, look.")

Folder = Annotated[Path, typer.Argument(help="The coordinator's folder.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@dataclass(frozen=True)
class InitOptions:
    """Options of `coordinator init`."""

    folder: Annotated[Path, typer.Argument(help="Folder to make; it must not exist yet.")]
    name: Annotated[str, typer.Option(help="The federation's name: small letters, digits, hyphens.")]
    host: Annotated[str, typer.Option(help="Name or address by which partners reach this machine.")] = "localhost"
    listen: Annotated[str, typer.Option(help="Address to listen on for partners; 0.0.0.0 for all.")] = "127.0.0.1"
    partner_port: Annotated[int, typer.Option(help="Port that partners connect to.")] = 18443
    link_port: Annotated[int, typer.Option(help="Port of Flower's SuperLink, on this machine only.")] = 19443


@coordinator.command("init")
@taking(InitOptions)
def init(asked: InitOptions) -> None:
    """Make a coordinator's folder: keys, certificates, settings, and examples of service files.

    Example: fedscore coordinator init hub --name demo-credit
    """
    from server.coordinator.bundling import build
    from server.coordinator.founding import init as make

    given = {name: value for name, value in vars(asked).items() if name != "folder"}
    made = make(Coordinator(asked.folder.expanduser().resolve(), **given), build())
    typer.echo(f"{asked.folder}: coordinator of {made.name}, fingerprint {_fingerprint(made)}")
    typer.echo(f"bundle {made.bundle}")
    typer.echo(f"next: fedscore coordinator up {asked.folder} --background")


@coordinator.command("up")
def up(
    folder: Folder,
    background: Annotated[bool, typer.Option("--background", help="Return once everything answers.")] = False,
) -> None:
    """Start SuperLink, SuperExec and nginx, and keep them up until Ctrl-C, SIGTERM or `down`.

    Example: fedscore coordinator up hub --background
    """
    from server.coordinator import supervising

    given = Coordinator.load(folder)
    if not background:
        supervising.up(given, _say)
        return
    supervising.up_in_background(given)
    typer.echo(f"up: partners connect to {given.superlink}; end it by `fedscore coordinator down {folder}`")


@coordinator.command("down")
def down(folder: Folder) -> None:
    """End what `up` started.

    Example: fedscore coordinator down hub
    """
    from server.coordinator import supervising

    typer.echo("down" if supervising.down(Coordinator.load(folder)) else "was not up")


@coordinator.command("status")
def status(folder: Folder) -> None:
    """Show what runs, how long certificates hold, who is online, and what needs doing; exit code 1 if something does.

    Example: fedscore coordinator status hub
    """
    from server.coordinator.looking import examine

    given = Coordinator.load(folder)
    findings = examine(given)
    for finding in findings:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.ok]
        typer.echo(f"{mark} {finding.what}")
    typer.echo(f"     bundle {given.bundle}")
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


@coordinator.command("enrol")
def enrol(
    folder: Folder,
    requests: Annotated[list[Path], typer.Argument(help="What holders sent: request.json, one or several.")],
    replace: Annotated[bool, typer.Option("--replace", help="Take new keys of a holder that is enrolled.")] = False,
    yes: Yes = False,
) -> None:
    """Let holders in, after comparing fingerprints, and write everybody's next welcome.

    Example: fedscore coordinator enrol hub pay-1/request.json lender/request.json
    """
    from server.coordinator import enrolling

    given = Coordinator.load(folder)
    asked = [enrolling.read_request(path) for path in requests]
    for told in (one.request.holder for one in asked):
        typer.echo(f"{told.name} ({told.domain}): {fingerprint(told.verify)}")
    typer.echo(f"the coordinator itself: {_fingerprint(given)}")
    if not yes and not typer.confirm("Did each holder read you its fingerprint over another channel, and is it this?"):
        raise InputError("command line", "", "nobody was enrolled", remedy="compare the fingerprints, then enrol")
    roster = enrolling.enrol(given, asked, replace)
    typer.echo(f"welcomes number {roster.number}, one for each to send back:")
    for row in roster.holders:
        typer.echo(f"  {folder / 'welcomes' / f'{row.name}.welcome.json'}")


@coordinator.command("expel")
def expel(folder: Folder, name: Annotated[str, typer.Argument(help="Who leaves.")]) -> None:
    """Take a holder off the roster and its node off the SuperLink; the others get their next welcome.

    Example: fedscore coordinator expel hub pay-1
    """
    from server.coordinator import enrolling

    roster = enrolling.expel(Coordinator.load(folder), name)
    typer.echo(f"{name} left; send everybody else welcome number {roster.number} from {folder / 'welcomes'}")


@coordinator.command("renew")
def renew(
    folder: Folder,
    new_key: Annotated[bool, typer.Option("--new-key", help="Sign with another key from now on.")] = False,
) -> None:
    """Make a new certificate for the coordinator, and welcomes with new certificates for all; then `down` and `up`.

    Holders take a new key by its fingerprint only: `partner join DIR WELCOME --fingerprint`.

    Example: fedscore coordinator renew hub
    """
    from server.coordinator import founding, supervising

    own = Coordinator.load(folder)
    if new_key:
        supervising.check_free(own)
    founding.renew(own, new_key)
    if new_key:
        typer.echo(f"fingerprint of the coordinator: {_fingerprint(own)}")
    typer.echo(f"renewed: fedscore coordinator down {folder}; fedscore coordinator up {folder} --background")


@coordinator.command("upgrade")
def upgrade(folder: Folder) -> None:
    """Have runs send the app of this installation from now on; partners must allow it by their next welcome.

    Example: fedscore coordinator upgrade hub
    """
    from server.coordinator import bundling, founding

    before = Coordinator.load(folder)
    after = founding.upgrade(before, bundling.build())
    same = before.bundle == after.bundle
    typer.echo(
        f"bundle {after.bundle}: " + ("as before" if same else f"send everybody its file in {folder / 'welcomes'}")
    )


@dataclass(frozen=True)
class RunOptions:
    """Options of `coordinator run`; what is not given is the federation file's."""

    folder: Folder
    name: Annotated[str, typer.Option(help="Folder under out/; the time by default.")] = ""
    epsilon: Annotated[str, typer.Option(help="Budget of this run; never above the federation file's.")] = ""
    rounds: Annotated[str, typer.Option(help="Rounds of block training.")] = ""
    engine: Annotated[str, typer.Option(help="scorecard | moments | auto | network | opacus")] = ""
    set: Annotated[list[str] | None, typer.Option(help="Any other run setting, as KEY=VALUE; may be repeated.")] = None


@coordinator.command("run")
@taking(RunOptions)
def run(asked: RunOptions) -> None:
    """Run the programme with the nodes that are online, and say where the model is; exit code 1 if it failed.

    Example: fedscore coordinator run hub --name first --epsilon 1
    """
    from server.coordinator import running

    given = Coordinator.load(asked.folder)
    texts = {key: value for key in ("epsilon", "rounds", "engine") if (value := getattr(asked, key))}
    for pair in asked.set or ():
        key, found, value = pair.partition("=")
        if not found:
            raise InputError("command line", "--set", "must be KEY=VALUE", pair)
        texts[key] = value
    out = running.run(given, asked.name or running.new_name(), running.settings(given, texts), _say)
    typer.echo(f"published: {out / 'model'}")


@coordinator.command("score")
def score(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="The run whose model is used, as `run --name` called it.")],
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait for nodes to appear.")] = 60.0,
) -> None:
    """Have the lender's new applicants scored with a published model; the lender's folder gets the answers.

    Example: fedscore coordinator score hub first
    """
    from server.coordinator import running

    running.score(Coordinator.load(folder), name, {"wait": wait}, _say)
    typer.echo("scored: the lender's node has written its applicants' evidence and requests into its own folder")


@coordinator.command("runs")
def runs(folder: Folder) -> None:
    """List all runs, the latest first.

    Example: fedscore coordinator runs hub
    """
    from server.coordinator import running

    table = Table(box=None, pad_edge=False)
    for name in ("run", "status", "started", "out", "details"):
        table.add_column(name, overflow="fold")
    for row in running.runs(Coordinator.load(folder)):
        table.add_row(*(row[name] for name in ("run", "status", "started", "out", "details")))
    Console(width=None if sys.stdout.isatty() else 160).print(table, highlight=False, markup=False)


@coordinator.command("stop")
def stop(folder: Folder, number: Annotated[str, typer.Argument(help="The run, as `runs` lists it.")]) -> None:
    """Stop a run; what its holders released stays charged.

    Example: fedscore coordinator stop hub 3444010587307977079
    """
    from server.coordinator import running

    running.stop(Coordinator.load(folder), number)
    typer.echo(f"stopped {number}")


def _fingerprint(given: Coordinator) -> str:
    import base64

    from privacy.signing import verify_key

    return fingerprint(base64.b64encode(verify_key(given.signing_key())).decode())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
