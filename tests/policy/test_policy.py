"""The qrexec policy: who may call what, checked by two evaluators."""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sys_pxe.agent import rpc
from tests.policy import evaluator, matrix, upstream
from tests.policy.evaluator import PolicyError, Request, System
from tests.policy.matrix import CHANGING, NAMED, OURS, READING, Verdict

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = REPOSITORY / "qubes-rpc"
POLICY = SERVICES / "policy" / "80-sys-pxe.policy"
TEXT = POLICY.read_text()
FILES = {POLICY.name: TEXT}
# what a user may have written after us
CATCH_ALL = """\
* * @anyvm @anyvm allow
* * @anyvm @adminvm allow
* * @anyvm @default allow target=sys-pxe
"""
CARELESS = {**FILES, "90-careless.policy": CATCH_ALL}


def own(files: Mapping[str, str]) -> Verdict:
    rules = evaluator.load(files)

    def verdict(request: Request, system: System) -> str | None:
        return evaluator.evaluate(rules, request, system)

    return verdict


Judge = Callable[[Mapping[str, str]], Verdict]
JUDGES: dict[str, Judge] = {"own": own}
UPSTREAM = importlib.util.find_spec("qrexec") is not None
if UPSTREAM:
    JUDGES["upstream"] = upstream.verdict_of
judges = pytest.mark.parametrize("judge", JUDGES.values(), ids=list(JUDGES))


@judges
def test_what_the_design_grants_and_nothing_else_is_allowed(
    judge: Judge,
) -> None:
    assert list(matrix.differences(judge(FILES))) == []


@judges
def test_a_later_file_that_allows_all_opens_no_service_of_ours(
    judge: Judge,
) -> None:
    assert list(matrix.differences(judge(CARELESS), OURS)) == []


def test_the_matrix_has_grants_and_many_more_denials() -> None:
    verdicts = [matrix.granted(*case) for case in matrix.cases()]
    grants = sum(verdicts)
    assert grants > 100
    assert len(verdicts) - grants > 20 * grants


@judges
@pytest.mark.parametrize(
    ("request_", "target"),
    [
        (Request("syspxe.Push", "+r1", "admin", "sys-pxe"), "sys-pxe"),
        (Request("syspxe.Status", "+", "viewer", "@default"), "sys-pxe"),
        (Request("syspxe.Push", "+r1", "viewer", "sys-pxe"), None),
        (Request("syspxe.Status", "+", "work", "sys-pxe"), None),
        (Request("syspxe.Status", "+", "sys-pxe", "dom0"), None),
        (Request("syspxe.Status", "+x", "admin", "sys-pxe"), None),
        (Request("syspxe.Reboot", "+", "admin", "sys-pxe"), None),
    ],
    ids=str,
)
def test_some_calls_by_name(
    judge: Judge, request_: Request, target: str | None
) -> None:
    assert judge(FILES)(request_, matrix.system()) == target


@judges
def test_a_file_of_ones_own_with_a_lower_number_decides_first(
    judge: Judge,
) -> None:
    mine = "syspxe.Status + work sys-pxe allow\n"
    verdict = judge({**FILES, "30-user.policy": mine})
    status = Request("syspxe.Status", "+", "work", "sys-pxe")
    assert verdict(status, matrix.system()) == "sys-pxe"
    prune = Request("syspxe.Prune", "+", "work", "sys-pxe")
    assert verdict(prune, matrix.system()) is None


def mutations(line: str) -> Iterator[str]:
    """Yield wrong forms of a rule."""
    yield ""
    for old, new in (
        ("@tag:sys-pxe-admin", "@tag:sys-pxe-viewer"),
        ("@tag:sys-pxe-viewer", "@tag:sys-pxe-admin"),
        ("@tag:sys-pxe-admin", "@anyvm"),
        ("@tag:sys-pxe-viewer", "*"),
        ("@tag:sys-pxe-admin", "sys-pxe-admin"),
        (" allow", " deny"),
        (" deny", " allow"),
        (" autostart=no", ""),
        (" + ", " * "),
        (" + ", " ++ "),
        (" @anyvm ", " work "),
        (" target=sys-pxe", " target=work"),
        (" target=sys-pxe", ""),
    ):
        if old in line:
            yield line.replace(old, new)
    if re.search(r"@\S+ +sys-pxe ", line):
        yield re.sub(r"(@\S+) +sys-pxe ", r"\1 @anyvm ", line)
    if "deny" in line:
        yield re.sub(r"\* +deny", "@anyvm deny", line)
        yield re.sub(r"\S+ +deny", "sys-pxe deny", line)
        yield re.sub(r"\*( +@anyvm)", r"+\1", line)
    else:
        yield re.sub(r" [*+] ", " +r2 ", line)


LINES = TEXT.splitlines()
RULES = {
    number: line
    for number, line in enumerate(LINES)
    if line and not line.startswith("#")
}


def noticed(text: str, service: str) -> bool:
    """Whether the matrix sees a difference, alone or before a catch-all."""
    for files in (FILES, CARELESS):
        try:
            verdict = own({**files, POLICY.name: text})
        except PolicyError:
            return True
        found = matrix.differences(verdict, (service,), ("+", "+r1"))
        if next(found, None) is not None:
            return True
    return False


@pytest.mark.parametrize("number", RULES)
def test_each_wrong_form_of_each_rule_is_noticed(number: int) -> None:
    line = RULES[number]
    service = line.split()[0]
    missed = []
    for wrong in mutations(line):
        assert wrong != line
        text = "\n".join([*LINES[:number], wrong, *LINES[number + 1 :]])
        if not noticed(text, service):
            missed.append(wrong)
    assert missed == []


@pytest.mark.parametrize("service", OURS)
def test_denies_that_come_first_are_noticed(service: str) -> None:
    mine = [line for line in RULES.values() if line.startswith(f"{service} ")]
    assert noticed("\n".join(reversed(mine)), service)


@pytest.mark.parametrize("service", READING)
def test_who_has_both_tags_would_lose_by_viewer_rules_that_come_first(
    service: str,
) -> None:
    mine = [line for line in RULES.values() if line.startswith(f"{service} ")]
    viewer_first = sorted(mine, key=lambda line: "viewer" not in line)
    assert noticed("\n".join(viewer_first), service)


# the files agree


def test_policy_services_files_and_configuration_agree() -> None:
    rules = evaluator.load(FILES)
    assert {rule.service for rule in rules} == set(rpc.SERVICES)
    assert set(OURS) == set(rpc.SERVICES)
    assert {p.name for p in SERVICES.iterdir() if p.is_file()} == set(OURS)
    assert {p.name for p in (SERVICES / "config").iterdir()} == set(OURS)


def test_the_policy_lets_an_argument_pass_where_the_service_takes_one() -> None:
    taking = {n for n, s in rpc.SERVICES.items() if s.takes_argument}
    assert set(NAMED) == taking
    for rule in evaluator.load(FILES):
        if rule.action == "allow":
            assert rule.argument == ("*" if rule.service in taking else "+")


def test_what_only_reads_takes_no_data() -> None:
    for name in READING:
        assert rpc.SERVICES[name].payload_max == 0
    assert set(CHANGING) & set(READING) == set()


@pytest.mark.parametrize("service", OURS)
def test_each_service_runs_as_its_own_user(service: str) -> None:
    """No rule names a user: one place says it."""
    text = (SERVICES / "config" / service).read_text()
    assert text == "force-user='sys-pxe'\n"
    assert "user=" not in TEXT


@pytest.mark.parametrize("service", OURS)
def test_a_service_can_be_executed_and_its_configuration_not(
    service: str,
) -> None:
    assert (SERVICES / service).stat().st_mode & 0o777 == 0o755
    config = SERVICES / "config" / service
    assert config.stat().st_mode & 0o111 == 0


@pytest.mark.parametrize("service", OURS)
def test_the_last_word_on_a_service_is_a_denial_for_all(service: str) -> None:
    last = [r for r in evaluator.load(FILES) if r.service == service][-1]
    assert (last.argument, last.source, last.target, last.action) == (
        *("*", "@anyvm", "*", "deny"),
    )


def test_the_file_says_that_it_is_not_to_be_edited() -> None:
    head = TEXT.split("\n\n")[0]
    assert head.startswith("## Do not modify this file.")
    assert "lower number" in head
    assert all(32 <= ord(c) < 127 or c == "\n" for c in TEXT)


# broken files


BROKEN = (
    *("syspxe.Push", "a b c d", "syspxe.Push * work sys-pxe permit"),
    *("syspxe.Push r1 work sys-pxe allow", "* + work sys-pxe allow"),
    "syspxe.Push * @tags:x sys-pxe allow",
    "syspxe.Push * @tag: sys-pxe allow",
    "syspxe.Push * work @default allow",
    "syspxe.Push * @default sys-pxe allow",
    "syspxe.Push * work sys-pxe allow target",
    "syspxe.Push * work sys-pxe allow target=a target=b",
    "syspxe.Push * work sys-pxe allow autostart=maybe",
    "syspxe.Push * work sys-pxe deny target=sys-pxe",
    "syspxe/Push * work sys-pxe allow",
    "!includes include/x",
)


@judges
@pytest.mark.parametrize("line", BROKEN)
def test_a_syntax_error_in_any_file_is_an_error_of_the_whole_policy(
    judge: Judge, line: str
) -> None:
    """Then qrexec refuses every call: exit code 126 for the caller."""
    with pytest.raises(PolicyError):
        judge({**FILES, "75-other-package.policy": f"\n{line}\n"})


@judges
def test_a_file_name_that_is_not_allowed_is_an_error_too(judge: Judge) -> None:
    with pytest.raises(PolicyError):
        judge({**FILES, "75-Other.policy": ""})


@judges
@pytest.mark.parametrize("name", ["80-sys-pxe.policy", "30-user.policy"])
def test_a_good_file_loads(judge: Judge, name: str) -> None:
    judge({name: TEXT})


def own_lint(path: Path) -> None:
    evaluator.load({path.name: path.read_text()})


LINTERS = [own_lint, *([upstream.lint] if UPSTREAM else [])]


@pytest.mark.parametrize("lint", LINTERS)
def test_a_linter_is_content_and_can_complain(
    lint: Callable[[Path], None], tmp_path: Path
) -> None:
    lint(POLICY)
    bad = tmp_path / "75-bad.policy"
    bad.write_text(f"{TEXT}\nsyspxe.Push * work\n")
    with pytest.raises((PolicyError, SystemExit)):
        lint(bad)
