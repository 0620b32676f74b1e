"""The `hkbench` command: its verbs, and how errors become one line and an exit code."""

import logging
import sys
from typing import NoReturn

import typer
from rich.text import Text

from hkbench import __version__
from hkbench.cli import benchmark, data, doctor, export, models, report, search, spaces, train
from hkbench.cli.console import err
from hkbench.errors import HkbenchError

app = typer.Typer(
    help="Find the smallest, fastest image classifier that is as accurate as you need.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("search")(search.search)
app.command("train")(train.train)
app.command("benchmark")(benchmark.benchmark)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(spaces.app, name="spaces")


@app.callback(invoke_without_command=True)
def options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks and debug logs."),
) -> None:
    """Set what holds for every command."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s", force=True
    )
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; end with 0, or the exit code of the error that was shown."""
    try:
        app()
    except HkbenchError as error:
        _end(error, str(error), error.exit_code)
    except OSError as error:
        _end(error, f"{error.filename or 'A file'}: {error.strerror or error}", HkbenchError.exit_code)
    except Exception as error:  # noqa: BLE001 - a user never sees a traceback without --debug
        _end(error, _unforeseen(error), HkbenchError.exit_code)


def _unforeseen(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}. This is a fault of hkbench: --debug shows where it happened."


def _end(error: Exception, text: str, exit_code: int) -> NoReturn:
    if "--debug" in sys.argv:
        raise error
    err.print(Text.assemble(("error: ", "bold red"), text))
    sys.exit(exit_code)
