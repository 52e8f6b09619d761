"""The command for real power loss says in words what this machine cannot do."""

import pytest

from tests.powerloss import real
from tests.powerloss.image import missing


def test_a_file_system_that_cannot_be_used_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert missing("tape")
    assert real.main(["--filesystem", "tape"]) == 0
    assert "tape: skipped, only ext4 and xfs" in capsys.readouterr().out
