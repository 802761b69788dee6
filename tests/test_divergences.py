import sys

import pytest
from msgspec.structs import replace

from conformance.adapter import adapter_names, load
from conformance.conventions import conventions
from conformance.divergences import Divergence, known, resolved
from conformance.errors import ConformanceError
from conformance.fixture import fixtures
from conformance.layers import get_layer
from conformance.result import Case, Finding


def case(status="diverges", culprit="scaled", diagnosis=(), **fields):
    finding = [Finding(c, v, "canonical", culprit, True, [], "") for c, v in diagnosis]
    made = {"layer": "softmax", "fixture": "a/b", "adapter": "frame", "subject": "frame.softmax", "dtype": "float32"}
    return Case(status=status, culprit=culprit, diagnosis=finding, **{**made, **fields})


def entry(**fields):
    made = {"fixtures": ("a/b",), "step": "scaled", "reason": "It is so.", "link": "https://example.org/1"}
    return Divergence(**{**made, **fields})


def test_a_listed_divergence_is_known():
    found = resolved(case(), [entry()], {})
    assert found.status == "known-divergence"
    assert found.message == "It is so. (https://example.org/1)"
    assert found.culprit == "scaled"


def test_one_that_conforms_is_stale():
    found = resolved(case("conforms", None), [entry()], {})
    assert found.status == "stale-divergence"
    assert "take the entry out" in found.message


@pytest.mark.parametrize(
    "fields",
    [
        {"step": "weights"},
        {"conventions": ("attention.scale = 1",)},
        {"conventions": ()},
        {"fixtures": ("a", "a/c")},
        {"subject": "frame.other"},
        {"dtypes": ("float64", "bfloat16")},
        {"versions": {"frame": ">=2"}},
        {"versions": {"another": ">=1"}},
    ],
)
def test_another_divergence_stays_one(fields):
    seen = case(diagnosis=[("attention.scale", "twice")])
    assert resolved(seen, [entry(**fields)], {"frame": "1.5"}) == seen


@pytest.mark.parametrize(
    "fields",
    [
        {"fixtures": ("x", "a/b")},
        {"subject": "frame.softmax"},
        {"dtypes": ("float64", "float32")},
        {"conventions": ("attention.scale = twice",)},
        {"versions": {"frame": "==1.5.*"}},
        {"versions": {"frame": ">=1.5,<2", "base": "!=3"}},
    ],
)
def test_every_condition_that_holds(fields):
    seen = case(diagnosis=[("attention.scale", "twice")])
    assert resolved(seen, [entry(**fields)], {"frame": "1.5.2", "base": "2"}).status == "known-divergence"


def test_release_candidates_and_local_builds_count_as_their_version():
    for version in ("2.13.0+cpu", "2.13.1", "2.13.0.dev2"):
        assert (
            resolved(case(), [entry(versions={"torch": "==2.13.*"})], {"torch": version}).status == "known-divergence"
        )


def test_a_version_that_is_none_is_in_no_range():
    assert resolved(case(), [entry(versions={"torch": ">=1"})], {"torch": "unknown"}).status == "diverges"


@pytest.mark.parametrize("status", ["crashed", "timeout", "error", "unsupported", "uninformative", "inconclusive"])
def test_what_neither_diverges_nor_conforms_is_left_alone(status):
    seen = case(status, None)
    assert resolved(seen, [entry()], {}) == seen


def test_a_divergence_at_any_step_has_its_diagnosis_all_the_same():
    seen = case(diagnosis=[("arithmetic.precision", "float32")])
    anywhere = [entry(step="*", conventions=("arithmetic.precision = float32",))]
    for step in ("scaled", "weights"):
        found = resolved(replace(seen, culprit=step), anywhere, {})
        assert found.status == "known-divergence"
    other = [entry(step="*", conventions=("attention.scale = 1",))]
    assert resolved(seen, other, {}).status == "diverges"


def test_the_entry_that_matches_is_found_behind_one_that_does_not():
    assert resolved(case(), [entry(step="weights"), entry()], {}).status == "known-divergence"


# -- files --------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """Makes an adapter whose package lists what it is given."""

    def make(text=None, name="frame_adapter"):
        package = tmp_path / name
        (package / "known_divergences").mkdir(parents=True)
        (package / "__init__.py").write_text("class Frame:\n    name = 'frame'\n")
        if text is not None:
            content = text if isinstance(text, bytes) else text.encode()
            (package / "known_divergences" / "frame.toml").write_bytes(content)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = __import__(name)
        return module.Frame()

    return make


ROW = """
[[divergence]]
fixtures = ["a/b"]
step = "scaled"
reason = "It is so."
link = ""
"""


def test_a_file_with_everything(adapter):
    found = known(
        adapter(ROW + 'subject = "s"\ndtypes = ["float32"]\nversions = { torch = "==2.*" }\nconventions = []\n')
    )
    assert found == [
        entry(link="", subject="s", dtypes=("float32",), versions={"torch": "==2.*"}, conventions=()),
    ]


def test_no_file_is_no_entries(adapter):
    assert known(adapter()) == []


def test_an_adapter_that_is_one_module_has_no_entries(tmp_path, monkeypatch):
    (tmp_path / "single_module_adapter.py").write_text("class Frame:\n    name = 'frame'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert known(__import__("single_module_adapter").Frame()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW.replace('step = "scaled"\n', ""), "`step`"),
        (ROW.replace('["a/b"]', '"a/b"'), "fixtures"),
        (ROW + 'dtype = ["float32"]', "`dtype`"),
        (ROW + "versions = '>=2'", "versions"),
        (ROW.replace('"scaled"', '"*"'), "conventions"),
        (ROW.replace('"scaled"', '"*"') + "conventions = []", "conventions"),
        (ROW + "versions = { torch = 'two' }", "'two' is no version range of torch"),
        (ROW.replace("divergence", "divergences"), "`divergences`"),
        ("divergence = ", "frame.toml"),
        (b"\xff\xfe", "frame.toml"),
    ],
)
def test_a_file_that_is_not_right_is_named(adapter, text, said):
    with pytest.raises(ConformanceError, match=r"^known_divergences/frame\.toml: ") as caught:
        known(adapter(text))
    assert said in str(caught.value)


# -- the data that are shipped ------------------------------------------------------------------------------

SHIPPED = [(name, listed) for name in adapter_names() for listed in known(load(name))]


@pytest.mark.parametrize(("name", "listed"), SHIPPED, ids=[f"{n}-{e.subject}-{e.step}" for n, e in SHIPPED])
def test_a_shipped_entry_speaks_of_things_that_exist(name, listed):
    for identifier in listed.fixtures:
        fixture = fixtures()[identifier]
        assert listed.step in ("*", *get_layer(fixture.layer, fixture.config).steps)
    for said in listed.conventions or ():
        convention, _, value = said.partition(" = ")
        assert convention in conventions()
        assert value
    assert listed.reason
