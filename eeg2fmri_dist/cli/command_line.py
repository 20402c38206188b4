"""The command line that all verbs share: arguments in, exit code out."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from eeg2fmri_dist.cli.signals import raise_again
from eeg2fmri_dist.config import (
    Schema,
    describe,
    describe_key,
    describe_sections,
    load_config,
    to_yaml,
)
from eeg2fmri_dist.errors import ConfigError, LaunchError, SuiteError

ConfigT = TypeVar("ConfigT", bound=Schema)

EXIT_CODES = """\
exit codes:
  0 done   2 config   3 data or store   4 launch or environment   5 training diverged
  75 stopped cleanly: the same command continues   130 interrupted: the same command continues"""


@dataclass(frozen=True)
class View:
    """A flag of a verb that shows something in place of acting.

    Attributes
    ----------
    flag : str
        Without the dashes.
    help : str
        For ``--help``.
    show : callable
        Gets the config; prints.
    """

    flag: str
    help: str
    show: Callable[[Any], None]


def run_verb(
    schema: type[ConfigT],
    act: Callable[[ConfigT], None],
    plan: Callable[[ConfigT], Iterable[str]],
    argv: Sequence[str] | None = None,
    views: Sequence[View] = (),
    derive: Callable[[ConfigT], str] = lambda _: "",
) -> int:
    """Parse a verb's command line, do what it asks, return the exit code.

    Parameters
    ----------
    schema : type of Schema
        Config of the verb; its docstring is the description in ``--help``.
    act : callable
        Does the work.
    plan : callable
        Returns the lines of ``--dry-run``; must not change anything.
    argv : sequence of str or None
        Arguments; None = those of the process.
    views : sequence of View
        Further flags of this verb.
    derive : callable
        Returns what follows from a config, shown as comments below ``--print-config``.
    """
    raise_again()
    arguments = _parser(schema, views).parse_intermixed_args(argv)
    show = next((view.show for view in views if getattr(arguments, view.flag)), None)
    _log_to_console(debug=arguments.debug)
    try:
        config = load_config(schema, arguments.config, arguments.overrides)
        if arguments.print_config:
            print(to_yaml(config) + _as_comment(derive(config)), end="", flush=True)
        elif arguments.dry_run:
            print("\n".join(plan(config)), flush=True)
        else:
            (show or act)(config)
    except SuiteError as error:
        return _fail(error, arguments)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing more can be said on it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _fail(_disk_full(error) if _is_disk_full(error) else _unusable(error), arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


class _Help(argparse.Action):
    """Show everything, or one section or key of the config."""

    def __init__(self, *, schema: type[Schema], **settings: Any):
        super().__init__(nargs="?", **settings)
        self._schema = schema

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        # `--help CONFIG.yaml` asks for no section.
        if values is None or values.endswith((".yaml", ".yml")):
            parser.print_help()
            parser.exit()
        try:
            print("\n".join(describe_key(self._schema, values)), flush=True)
        except ConfigError as error:
            parser.exit(error.exit_code, f"error: {error}\n")
        parser.exit()


def _parser(schema: type[Schema], views: Sequence[View]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(schema.__doc__ or "").strip(),
        epilog=_epilog(schema),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument(
        "-h",
        "--help",
        action=_Help,
        schema=schema,
        metavar="KEY",
        help="show this, or a section or key of the config alone",
    )
    parser.add_argument(
        "config", metavar="CONFIG.yaml", help="YAML file, such as those under configs/"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # without it argparse lists them as required
        metavar="key.path=value",
        help="config values, parsed as YAML",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved config and stop"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would run, without running it"
    )
    for view in views:
        parser.add_argument(f"--{view.flag}", action="store_true", help=view.help)
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    # Some launchers add the local rank; ranks are read from the environment.
    parser.add_argument("--local-rank", "--local_rank", help=argparse.SUPPRESS)
    return parser


def _epilog(schema: type[Schema]) -> str:
    parts = {
        "sections of the config (--help SECTION explains one alone):": describe_sections(schema),
        "keys of the config:": describe(schema),
    }
    shown = [title + "".join(f"\n  {line}" for line in lines) for title, lines in parts.items()]
    return "\n\n".join([*shown, EXIT_CODES])


def _log_to_console(*, debug: bool) -> None:
    from rich.console import Console
    from rich.logging import RichHandler

    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=debug)
        layout = "%(message)s"
    else:
        handler = logging.StreamHandler()
        layout = "%(asctime)s %(message)s"
    handler.setFormatter(logging.Formatter(layout, datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in ("eeg2fmri_dist", "preprocessing"):
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.INFO)


def _as_comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _fail(error: SuiteError, arguments: argparse.Namespace) -> int:
    if arguments.debug:
        logging.getLogger(__name__).exception("traceback, as asked for by --debug")
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _unusable(error: OSError) -> LaunchError:
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return LaunchError(
            f"a file stands where a folder is needed ({error.strerror})",
            where=error.filename,
            remedy="give another path, or move the file out of the way",
        )
    return LaunchError(
        f"the operating system refuses this ({error.strerror or error})",
        where=error.filename,
        remedy="check the path and its permissions; --debug shows where it happened",
    )


def _is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)


def _disk_full(error: OSError) -> LaunchError:
    return LaunchError(
        "no space left on the disk",
        where=error.filename,
        remedy="free some space and run the same command again; finished parts are kept",
    )
