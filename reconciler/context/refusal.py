"""How a context is refused.

Rule: a refusal says what was expected, what there was, and where. It quotes types and never values, which may be
secrets.
"""

from typing import Any


class ContextError(ValueError):
    """A context that cannot be sent, or that is not what was expected.

    `problem` says what is wrong, and `path` where: `Web.limits[2].memory`, or nothing for the context as a whole.
    """

    __module__ = "reconciler.context"  # as users know it

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem, path)
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        return f"{self.problem} @ {self.path}" if self.path else self.problem

    def prepend(self, step: str) -> None:
        """Extend the path by the step that leads to where it begins."""
        self.path = step + self.path
        self.args = (self.problem, self.path)


def called(type_: Any) -> str:
    """What a type is called in messages."""
    return type_.__name__ if isinstance(type_, type) else str(type_)


def unlike(expected: Any, value: Any) -> ContextError:
    """That `value` has another type than expected."""
    return ContextError(f"expected {called(expected)}; got {'None' if value is None else type(value).__name__}")
