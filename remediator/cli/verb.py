"""Makes a function a verb: shared options, asynchronous bodies, errors as exit codes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, get_type_hints

import typer

from remediator.cli.options import ConfigOption, OutputOption, ServerOption, Shared, TokenOption

FINE, NO, USAGE, UNKNOWN = 0, 1, 2, 3
"""Exit codes: fine; the answer is no; wrong usage or settings; could not tell."""

_SHARED = {"config": ConfigOption, "server": ServerOption, "token": TokenOption, "output": OutputOption}


def group() -> typer.Typer:
    """The typer app of a verb group."""
    return typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )


def many(app: typer.Typer) -> typer.Typer:
    """Keep an app with a single verb a group: `effects list`, not `effects`."""

    @app.callback()
    def nothing() -> None:
        pass

    return app


def verb(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function whose first parameter is the Invocation and whose value is the exit code.

    Args:
        name: how it is called; None for an app that is a single verb.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]

        @wraps(function)
        def run(ctx: typer.Context, **given: Any) -> None:
            said = Shared(**{key: given.pop(key) for key in _SHARED})
            shared = said.over(ctx.obj) if isinstance(ctx.obj, Shared) else said
            raise typer.Exit(_called(function, shared, given))

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
        parameters += [one.replace(kind=keyword, annotation=hints[one.name]) for one in own]
        parameters += [
            inspect.Parameter(key, keyword, annotation=annotation, default=None)
            for key, annotation in _SHARED.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        del run.__wrapped__
        app.command(name)(run)
        return function

    return register


def _called(function: Callable[..., Any], shared: Shared, given: dict[str, Any]) -> int:
    from remediator.cli.invocation import Invocation
    from remediator.errors import (
        AuthenticationError,
        ConfigurationError,
        Conflict,
        NotFound,
        RemediatorError,
        StoreError,
    )

    call = Invocation(shared)
    try:
        answer = function(call, **given)
        code = asyncio.run(answer) if inspect.iscoroutine(answer) else answer
        return FINE if code is None else int(code)
    except NotFound as error:
        _refuse(error, NO)
    except Conflict as error:
        _refuse(error, NO)
    except ConfigurationError as error:
        _refuse(error, USAGE)
    except StoreError as error:
        _refuse(error, UNKNOWN, call.without)
    except AuthenticationError as error:
        _refuse(error, UNKNOWN)
    except RemediatorError as error:
        _refuse(error, NO)


def _refuse(error: Exception, code: int, note: str = "") -> NoReturn:
    typer.echo(f"remediator: {error}{note}", err=True)
    raise typer.Exit(code)
