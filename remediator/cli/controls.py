"""`pause` and `resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from remediator.cli import values
from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, NO, group, verb

pause = group()
resume = group()

CommentOption = Annotated[str, typer.Option("--comment", help="Why; it stays in the audit log.")]
PolicyOption = Annotated[str | None, typer.Option("--policy", help="Only this policy.")]
TargetOption = Annotated[str | None, typer.Option("--target", help="Only this target.")]


@verb(pause)
async def pause_(
    call: Invocation,
    comment: CommentOption,
    policy: PolicyOption = None,
    target: TargetOption = None,
    for_: Annotated[
        str, typer.Option("--for", help="It ends by itself after this: 30m, 4h; or never.")
    ] = "4h",
) -> None:
    """Stop new actions. What already acts is finished and verified.

    A pause that is on and lasts longer is not cut short: resume it first.
    """
    scope = _scope(policy, target)
    if for_ != "never":
        values.seconds(for_, "--for")
    async with call.api() as api:
        control = await api.pause(scope, comment, for_)
    until = f"until {control['until']}" if control["until"] else "until someone resumes it"
    said = f"{_named(scope)} is paused {until}; lift it: remediator resume {_again(scope)}"
    before = control["data"].get("before")
    if control["reason"] != comment:
        said += f"\nIt was paused for longer already, by {control['actor']} ({control['reason']}); that stays"
    elif before is not None:
        said += f"\nThis replaces the pause by {before['actor']} ({before['reason']})"
    if control["warning"]:
        call.warn(f"WARNING: {control['warning']}")
    call.print(control, said)


@verb(resume)
async def resume_(
    call: Invocation, comment: CommentOption, policy: PolicyOption = None, target: TargetOption = None
) -> int:
    """Lift a pause: 0 it is lifted, 1 there was none."""
    scope = _scope(policy, target)
    async with call.api() as api:
        lifted = await api.resume(scope, comment)
    said = f"{_named(scope)} is resumed" if lifted else f"{_named(scope)} was not paused"
    call.print({"scope": scope, "resumed": lifted}, said)
    return FINE if lifted else NO


def _scope(policy: str | None, target: str | None) -> str:
    if policy and target:
        raise typer.BadParameter("give --policy or --target, not both")
    if policy:
        return f"policy:{policy}"
    return f"target:{target}" if target else ""


def _named(scope: str) -> str:
    return scope.replace(":", " ", 1) if scope else "the whole daemon"


def _again(scope: str) -> str:
    kind, _, name = scope.partition(":")
    return f"--{kind} {name} --comment …" if name else "--comment …"
