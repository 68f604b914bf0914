"""The finished run that the commands' tests share."""

from tests.experiments.conftest import finished_run  # noqa: F401
