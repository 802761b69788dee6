"""How to see a case again: the command, and a minimal script."""

from __future__ import annotations

import pprint
import shlex
from typing import Any

from conformance.result import Case, Run
from conformance_reports.wording import rerun, visible


def command(run: Run, cases: tuple[Case, ...]) -> list[str]:
    """The command that judges `cases` again, in words that a shell takes; empty where there is none.

    Cases of no fixture come from the run's own command.
    """
    return rerun(cases) or [shlex.quote(visible(word)) for word in run.command]


def script(run: Run, case: Case) -> str:
    """A Python program that judges `case` again and prints what is at fault."""
    return _of_a_fixture(case) if case.fixture else _of_a_subject(run, case)


def _of_a_fixture(case: Case) -> str:
    words = [_written(each) for each in (case.fixture, case.adapter, case.dtype)]
    return f"""\
from conformance.fixture import select
from conformance.run import run

if __name__ == "__main__":  # the framework runs in a process of its own
    found = run(select([{words[0]}]), [{words[1]}], [{words[2]}])
    [case] = [c for c in found.cases if c.subject == {_written(case.subject)}]
    print(case.status, case.culprit, case.diagnosis, sep="\\n")
    print([step.isolated for step in case.steps if step.name == case.culprit])
"""


def _of_a_subject(run: Run, case: Case) -> str:
    checked = [word for word in run.command[2:3] if run.command[:2] == ["conformance", "check"]]
    named = f"{_written(checked[0])}" if checked else f"...  # {visible(case.subject)}: the object that was checked"
    options = "".join(
        f"    {name}={value},\n"
        for name, value in (
            ("config", _told({n: v for n, v in case.config.items() if v is not None})),
            ("adapter", _written(case.adapter)),
            ("dtype", _written(case.dtype)),
        )
        if value
    )
    return f"""\
import conformance

subject = {named}
case = conformance.check(
    subject,
    {_written(case.layer)},
{options})
print(case.status, case.culprit, case.diagnosis, sep="\\n")
print([step.isolated for step in case.steps if step.name == case.culprit])
"""


def _told(config: dict[str, Any]) -> str:
    return pprint.pformat(config, width=100, indent=1, compact=True).replace("\n", "\n    ") if config else ""


def _written(text: str) -> str:
    """A name as Python writes it, with nothing unseen in it."""
    return ascii(text)
