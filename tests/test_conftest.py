"""The rules of conftest.py hold, seen from outside: a pytest of its own runs a small tree of tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED_MODULE = "import pytest\n\npytest.importorskip('a_module_nobody_has')\n"
SKIPPED_TEST = "import pytest\n\n\ndef test_nothing():\n    pytest.skip('no node here')\n"
BUGGY_TEST = "from pub.metrics import Metrics\n\n\ndef test_bug():\n    Metrics().internal_errors.inc()\n"
PLANTED_TEST = """from pub.metrics import Metrics


def test_planted(internal_errors):
    internal_errors.expected = 1
    Metrics().internal_errors.inc()
"""


def run(folder: Path, text: str, *arguments: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    """Run one test file under a copy of our conftest.py."""
    (folder / "interop").mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests/conftest.py", folder)
    (folder / "interop/test_it.py").write_text(text)
    options = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "-p", "no:cacheprovider", *arguments]
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    environment = {**os.environ, "CI": ci}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("text", [SKIPPED_TEST, SKIPPED_MODULE])
def test_a_skip_is_a_failure_under_ci(tmp_path: Path, text: str) -> None:
    assert "1 skipped" in run(tmp_path, text).stdout
    under_ci = run(tmp_path, text, ci="true")
    assert under_ci.returncode != 0
    assert "skipped under CI" in under_ci.stdout


@pytest.mark.slow
def test_interop_is_left_out_of_the_fast_tests(tmp_path: Path) -> None:
    assert "1 deselected" in run(tmp_path, SKIPPED_TEST, "-m", "not slow and not interop").stdout


@pytest.mark.slow
def test_a_counted_bug_fails_its_test_unless_the_test_planted_it(tmp_path: Path) -> None:
    assert "internal_errors is 1, not 0" in run(tmp_path, BUGGY_TEST).stdout
    assert run(tmp_path, PLANTED_TEST).returncode == 0
