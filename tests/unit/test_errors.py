"""The family of errors: texts for people, exit codes for programs."""

import pytest

from sys_pxe import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.SysPxeError, 1),
        (errors.UsageError, 2),
        (errors.InvalidInput, 3),
        (errors.VerificationError, 4),
        (errors.Busy, 5),
    ],
)
def test_exit_codes_are_fixed(
    kind: type[errors.SysPxeError], code: int
) -> None:
    assert kind("x").exit_code == code
    assert isinstance(kind("x"), errors.SysPxeError)


def test_the_hint_has_its_own_line() -> None:
    assert errors.Busy("in use", "wait").explain() == "in use\nhint: wait"


def test_no_hint_no_line() -> None:
    assert errors.Busy("in use").explain() == "in use"


def test_each_kind_has_a_code_of_its_own() -> None:
    codes = {errors.SysPxeError.exit_code}
    for kind in errors.SysPxeError.__subclasses__():
        codes.add(kind.exit_code)
    assert codes == {1, 2, 3, 4, 5}
