"""The page commands.md: what the command line takes, read from its parser. `catalogue.py` writes it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from conformance.options import parser

WIDTH = 100  # of a usage; the terminal's would differ from one machine to the next
PAGES = {"report": "report.md#conformance-report"}  # where a command's page is not of its name alone


def commands_page() -> Iterator[str]:
    """The command reference without its title: a section for each command, in the order of `--help`."""
    top = parser()
    yield (
        "Every command and all that it takes, as `--help` prints it. The page of each command has examples. "
        "`conformance --version` prints the version."
    )
    yield ""
    yield (
        "Exit codes of every command: 2 for bad usage or input, 3 for a fault of the program or of a plug-in, 130 "
        "where it was interrupted; an error is one sentence on standard error. Otherwise 0, where nothing else is said."
    )
    [commands] = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    for name, command in commands.choices.items():
        yield ""
        yield from _command(name, command)


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield f"{_sentence(command.description)} See [{command.prog}]({PAGES.get(name, f'{name}.md')})."
    yield ""
    yield "```text"
    yield _usage(command)
    yield "```"
    arguments = [a for a in command._actions if not a.option_strings]
    options = [a for a in command._actions if a.option_strings]
    for title, actions in (("argument", arguments), ("option", options)):
        if actions:
            yield ""
            yield f"| {title} | meaning |"
            yield "|---|---|"
            yield from (f"| {_name(a)} | {_sentence(a.help)}{_choices(a)} |" for a in actions)
    if command.epilog:
        yield ""
        yield _sentence(command.epilog)


def _usage(command: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(command.prog, width=WIDTH)
    formatter.add_usage(None, command._actions, command._mutually_exclusive_groups, prefix="")
    return formatter.format_help().rstrip()


def _name(action: argparse.Action) -> str:
    metavar = action.metavar or action.dest
    if not action.option_strings:
        return f"`{metavar}`"
    return f"`{', '.join(action.option_strings)}{'' if action.nargs == 0 else f' {metavar}'}`"


def _choices(action: argparse.Action) -> str:
    return f": {', '.join(f'`{c}`' for c in action.choices)}" if action.choices else ""


def _sentence(text: str | None) -> str:
    """Help as it can stand in a table; an option is set as code, lest its dashes be joined."""
    plain = (text or "").replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![`\w-])--[\w-]+", r"`\g<0>`", plain)
