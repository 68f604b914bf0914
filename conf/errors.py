"""The error that a user can correct."""


class InputError(ValueError):
    """An input is wrong: data, configuration, a file, an argument.

    `problem` is one line that says what was wrong and its value; `remedy` says what to do.
    Commands print it without a traceback and leave with exit code 2.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy}" if remedy else problem)

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        return (type(self), (self.problem, self.remedy))
