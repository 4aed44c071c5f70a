"""The one family of errors: a message, a hint and an exit code.

Libraries raise these; only ``main`` functions turn them into an exit status.
A message says where, what and what was expected; the hint says what to do.
"""


class SysPxeError(Exception):
    """Something failed (exit code 1).

    ``message`` is one line without a full stop at its end; ``hint`` is what
    the reader can do about it, or an empty string.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def explain(self) -> str:
        """Return the text for a person: the message, then the hint."""
        if not self.hint:
            return self.message
        return f"{self.message}\nhint: {self.hint}"


class UsageError(SysPxeError):
    """The command was called in a wrong way (exit code 2)."""

    exit_code = 2


class InvalidInput(SysPxeError):
    """A value from outside does not have the form it must have (exit 3)."""

    exit_code = 3


class VerificationError(SysPxeError):
    """A signature, digest, serial or date does not hold (exit code 4)."""

    exit_code = 4


class Busy(SysPxeError):
    """Somebody else holds the lock; the same call may work later (exit 5)."""

    exit_code = 5
