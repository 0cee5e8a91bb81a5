"""Define the errors that are shown to users without a traceback.

Everything that a user can cause (a setting, a file, a disk) is raised as `UserError` or `ParamError`; the command line prints
its three parts and exits with 1. `assert` is for our own invariants and does show a traceback.
"""

from __future__ import annotations

EXIT_OF_RANK = (
    78  # sysexits' EX_CONFIG: exit code of a torchrun process after a user error, so that launch does not restart it
)


class UserError(ValueError):
    """Report something that the user can fix: what is wrong, what was found, what to do."""

    def __init__(self, what: str, found: str, do: str) -> None:
        super().__init__(f"{what}\n  found: {found}\n  to do: {do}")
        self.what, self.found, self.do = what, found, do

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        return type(self), (self.what, self.found, self.do)


class ParamError(UserError):
    """Report settings in params.yaml that are unknown, of the wrong type or out of range."""
