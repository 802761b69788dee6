"""The pytest plugin: the fixtures `conformance` and `conformance_case`, the marker `conformance`, and a report of
all cases of a session.

pytest loads it whenever it starts, so nothing but pytest is imported before a test or an option asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conformance.result import Case, Run
    from conformance.worker import Workers

_FILES = ("html", "json")
_CARRIED = "conformance"  # the attribute of a test's report in which its cases go from a process of xdist's to the main
_WORST_FIRST = (
    "diverges",
    "stale-divergence",
    "crashed",
    "timeout",
    "error",
    "inconclusive",
    "uninformative",
    "known-divergence",
    "conforms",
    "unsupported",
    "unavailable",
)
_NOT_RUN = ("unsupported", "unavailable")


class Conformance:
    """What the fixture `conformance` is. Every case is recorded for the session's report, under the test's name."""

    def __init__(self, test: str) -> None:
        self._test = test
        self.cases: list[Case] = []
        self.environment: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<conformance of {self._test}>"

    def check(self, subject: Any, layer: str, **options: Any) -> Case:
        """As `conformance.check`, with its options."""
        __tracebackhide__ = True
        from conformance.checking import checked_run

        return self._recorded(checked_run, subject, layer, **options).cases[0]

    def check_model(self, model: Any, **options: Any) -> Run:
        """As `conformance.check_model`, with its options."""
        __tracebackhide__ = True
        from conformance.checking import check_model

        return self._recorded(check_model, model, **options)

    def assert_conforms(self, subject: Any, layer: str, **options: Any) -> None:
        """As `check`. Raises AssertionError, which reads as the report does, unless the case conforms."""
        __tracebackhide__ = True
        self.assert_case(self.check(subject, layer, **options))

    def assert_case(self, case: Case) -> None:
        """Raises AssertionError, which reads as the report does, unless `case` conforms or is a known divergence."""
        __tracebackhide__ = True
        if case.status not in ("conforms", "known-divergence"):
            from conformance.checking import told

            raise AssertionError(told(case))

    def _recorded(self, checked: Callable[..., Run], *subject: Any, **options: Any) -> Run:
        """What was checked. An error in what was given is one sentence: the way through the engine is left out."""
        __tracebackhide__ = True
        from conformance.errors import ConformanceError

        try:
            return self.record(checked(*subject, **options))
        except ConformanceError as error:
            raise error.with_traceback(None) from None

    def record(self, run: Run) -> Run:
        """Have the run's cases in the session's report too; a case's subject is told with the test's name before it."""
        from msgspec.structs import replace

        self.cases += [replace(c, subject=f"{self._test}: {c.subject}".removesuffix(": ")) for c in run.cases]
        self.environment |= run.environment
        return run


class _Report:
    """The cases of all tests, in the process that writes the report."""

    def __init__(self, config: pytest.Config) -> None:
        self.files: dict[str, Path] = {}
        for name in _FILES:
            given = config.getoption(f"conformance_{name}")
            if given is not None:
                self.files[name] = Path(given).expanduser()
        self.folder = config.invocation_params.dir  # where tests may leave it
        for path in self.files.values():  # told before the tests are run, not after
            if (self.folder / path).is_dir() or not (self.folder / path).parent.is_dir():
                raise pytest.UsageError(f"{path}: cannot be written; give a file in a folder that exists")
        self.carried: list[tuple[int, str]] = []
        self.said: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test's report carries, from this process or another."""
        carried = getattr(report, _CARRIED, None)
        if carried is not None:
            self.carried.append(carried)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files, unless there is nothing to write."""
        if not self.carried:
            self.said = [f"no test recorded a case: {path} is not written" for path in self.files.values()]
            return
        from conformance.errors import ConformanceError
        from conformance.report import write
        from conformance_reports.wording import counted

        run = self._run()
        counts = ", ".join(counted(status, n) for status, n in run.summary.items())
        self.said = [f"{len(run.cases)} {'case' if len(run.cases) == 1 else 'cases'}: {counts}"]
        for name, path in self.files.items():
            try:
                write(name, run, self.folder / path)
                self.said.append(f"the {name.upper()} report is {path}")
            except ConformanceError as error:
                self.said.append(str(error))
                session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR

    def _run(self) -> Run:
        """One run of all cases, in the order of the collected tests, whichever process they ran in."""
        import msgspec

        from conformance.checking import run_of
        from conformance.result import Case

        cases: list[Case] = []
        environment: dict[str, str] = {}
        for _, text in sorted(self.carried, key=lambda c: c[0]):
            carried = json.loads(text)
            cases += msgspec.convert(carried["cases"], list[Case])
            environment |= carried["environment"]
        return run_of(cases, environment, sum(c.seconds for c in cases))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many cases there are and where the report is; nothing in a session that uses none of this."""
        if self.said:
            terminalreporter.write_sep("-", "conformance")
            for line in self.said:
                terminalreporter.write_line(line)


_RECORDED = pytest.StashKey[Conformance]()
_PLACES = pytest.StashKey[dict[str, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--conformance-html` and `--conformance-json`."""
    group = parser.getgroup("conformance", "conformance: do layers compute what they should?")
    for name in _FILES:
        group.addoption(
            f"--conformance-{name}",
            metavar="FILE",
            default=None,
            help=f"write the cases of all tests that use `conformance` as {name.upper()}",
        )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known; in the main process, take the cases."""
    config.addinivalue_line(
        "markers",
        "conformance(layers=(), adapters=(), fixtures=(), dtypes=('float32', 'float64')): a test of `conformance_case` "
        "for each form of the fixtures, on each adapter, in each dtype; what is left out is not narrowed down.",
    )
    if not hasattr(config, "workerinput"):  # a process of xdist's has it
        config.pluginmanager.register(_Report(config), "conformance-report")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Put what the test recorded into its report, which reaches the main process whatever happens afterwards."""
    report = yield
    recorded = item.stash.get(_RECORDED, None)
    if recorded is not None and recorded.cases:
        from msgspec import to_builtins

        session = item.session
        if _PLACES not in session.stash:
            session.stash[_PLACES] = {each.nodeid: n for n, each in enumerate(session.items)}
        text = json.dumps({"cases": to_builtins(recorded.cases), "environment": recorded.environment})
        setattr(report, _CARRIED, (session.stash[_PLACES].get(item.nodeid, -1), text))
        recorded.cases = []
    return report


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Conformance:
    """`check`, `check_model` and `assert_conforms` of the package, whose cases go into the session's report."""
    recorded: Conformance = request.node.stash.setdefault(_RECORDED, Conformance(request.node.nodeid))
    return recorded


@pytest.fixture(scope="session")
def conformance_workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """The processes in which the frameworks live, one for each adapter that is asked for, as long as the session."""
    from conformance.worker import Workers

    beside = getattr(request.config, "workerinput", {}).get("workercount", 1)  # other processes want cores too
    workers = Workers(beside)
    yield workers
    workers.shutdown(cancel_futures=True)


@pytest.fixture
def conformance_case(request: pytest.FixtureRequest, conformance: Conformance, conformance_workers: Workers) -> Case:
    """The case of one fixture's form on one adapter in one dtype, as the marker `conformance` asks for them.

    Where the adapter has several subjects for the layer, all are recorded, and this is the worst. A framework that is
    not installed, and a layer that the framework does not have, skip the test.
    """
    from conformance.fixture import select
    from conformance.run import run

    fixture, adapter, dtype = request.param
    done = conformance.record(run(select([fixture]), [adapter], [dtype], executor=conformance_workers))
    case = worst(done.cases)
    if case.status in _NOT_RUN:
        pytest.skip(f"{case.status}: {case.message}")
    return case


def worst(cases: Iterable[Case]) -> Case:
    """The case that decides over several: the worst status, and of that the greatest ratio; what ran goes first."""
    return min(cases, key=lambda c: (_WORST_FIRST.index(c.status), -(c.ratio or 0.0)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each (form, adapter, dtype) that the marker asks for."""
    if "conformance_case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("conformance")
    if marker is None:
        pytest.fail(
            "`conformance_case` needs the marker that says of what: @pytest.mark.conformance(layers=[...], "
            "adapters=[...])",
            pytrace=False,
        )
    from conformance.errors import ConformanceError

    asked: Callable[..., list[tuple[str, str, str]]] = _asked
    cases, wrong = [], ""
    try:
        cases = asked(*marker.args, **marker.kwargs)
    except (ConformanceError, TypeError) as error:
        wrong = f"@pytest.mark.conformance: {error}"
    if wrong:
        pytest.fail(wrong, pytrace=False)
    metafunc.parametrize("conformance_case", cases, ids=["-".join(case) for case in cases], indirect=True)


def _asked(
    *,
    layers: tuple[str, ...] = (),
    adapters: tuple[str, ...] = (),
    fixtures: tuple[str, ...] = (),
    dtypes: tuple[str, ...] = ("float32", "float64"),
) -> list[tuple[str, str, str]]:
    """Form, adapter and dtype of each case, by adapter. Raises ConformanceError for an unknown name."""
    from conformance.errors import ConformanceError
    from conformance.fixture import select
    from conformance.layers import get_layer, layer_names
    from conformance.precision import precision
    from conformance.run import chosen_adapters

    for name, given in (("layers", layers), ("adapters", adapters), ("fixtures", fixtures), ("dtypes", dtypes)):
        if isinstance(given, str):
            raise ConformanceError(f"{name}={given!r} is one word: give a list, {name}=[{given!r}]")
    for layer in layers:
        if layer not in layer_names():
            get_layer(layer)  # raises, with the nearest name
    formats = [precision(dtype).name for dtype in dtypes]
    forms = [f.id for f in select(list(fixtures)) if not layers or f.layer in layers]
    if not forms:
        raise ConformanceError(f"no fixture is of {', '.join(layers)}; `conformance list fixtures` has them all")
    return [(form, adapter, dtype) for adapter in chosen_adapters(adapters) for form in forms for dtype in formats]
