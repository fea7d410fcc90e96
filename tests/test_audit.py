"""`make audit`: what is found fails, and where nobody can be asked it passes with a word."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CLEAN = {"name": "torch", "version": "2.15.0", "vulns": []}
SKIPPED = {"name": "odd", "skip_reason": "not on PyPI"}
FAULT = {"id": "PYSEC-1", "fix_versions": ["13.0.1"], "aliases": [], "description": "a\nb"}
HOPELESS = {"id": "PYSEC-2", "fix_versions": [], "aliases": [], "description": ""}


def audit(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a pip-audit that does this."""
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\n{code}")
    program.chmod(0o755)
    command = [sys.executable, str(ROOT / ".ci/audit.py"), str(program), "constraints.txt", "--ignore-vuln", "X"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def listing(*packages: object) -> str:
    return f"sys.stdout.write({json.dumps({'dependencies': packages, 'fixes': []})!r})\n"


def test_nothing_found(tmp_path: Path) -> None:
    run = audit(tmp_path, listing(CLEAN, SKIPPED))
    assert (run.returncode, run.stderr) == (0, "")
    assert "0 published vulnerabilities in 1 packages of constraints.txt; 1 could not be asked for" in run.stdout


def test_a_find_fails_with_its_remedy(tmp_path: Path) -> None:
    vulnerable = {"name": "pillow", "version": "13.0.0", "vulns": [FAULT, HOPELESS]}
    run = audit(tmp_path, listing(CLEAN, vulnerable) + "sys.exit(1)")
    assert (run.returncode, run.stderr) == (1, "")
    assert "pillow 13.0.0: PYSEC-1, fixed in 13.0.1" in run.stdout
    assert "pillow 13.0.0: PYSEC-2, not fixed yet (AUDIT_IGNORE" in run.stdout


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("sys.stderr.write('many lines\\nConnectionError: no route\\n'); sys.exit(1)", "ConnectionError: no route"),
        ("sys.stderr.write('WARNING: a\\nERROR: no route\\nERROR: try another\\n'); sys.exit(1)", "ERROR: no route"),
        ("sys.exit(1)", "exit code 1"),
        ("sys.stdout.write('{}')", "exit code 0"),
    ],
)
def test_an_outage_passes_with_a_word(tmp_path: Path, code: str, reason: str) -> None:
    run = audit(tmp_path, code)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("audit skipped")
    assert reason in run.stdout


def test_where_it_is_not_installed_it_is_skipped(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / ".ci/audit.py"), str(tmp_path / "absent"), "constraints.txt"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert "audit skipped" in run.stdout


def test_a_wrong_option_is_no_outage(tmp_path: Path) -> None:
    run = audit(tmp_path, "sys.stderr.write('error: unrecognized arguments'); sys.exit(2)")
    assert (run.returncode, run.stdout) == (2, "error: unrecognized arguments")
