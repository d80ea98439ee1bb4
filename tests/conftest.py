"""What every test starts from."""

import pytest


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees a user's terminal, also when the suite itself runs in CI; one that means CI sets the variable."""
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "EDGEPRUNE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
