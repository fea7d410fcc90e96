"""Published vulnerabilities of pinned versions, by pip-audit: a find fails, an outage passes with a word.

python .ci/audit.py PIP_AUDIT REQUIREMENTS [OPTION ...]
"""

import json
import subprocess
import sys
from collections.abc import Sequence

_SECONDS = 300  # a hundred packages are a hundred requests
_WRONG_OPTION = 2
_OPTIONS = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")


def main(arguments: Sequence[str]) -> int:
    """Run pip-audit, print what it found, and return the exit code: 1 if a version is vulnerable."""
    program, requirements, *options = arguments
    try:
        run = subprocess.run(
            [program, "--requirement", requirements, *_OPTIONS, *options],
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        if run.returncode == _WRONG_OPTION:
            sys.stdout.write(run.stderr)
            return run.returncode
        packages = json.loads(run.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired) as error:
        return _skip(str(error))
    except (ValueError, KeyError):  # it prints no list if it cannot ask for one package
        lines = (run.stderr.strip() or f"exit code {run.returncode}").splitlines()
        return _skip(next((line for line in lines if line.startswith("ERROR")), lines[-1]))
    finds = [
        f"{package['name']} {package['version']}: {fault['id']}, {_remedy(fault['fix_versions'])}"
        for package in packages
        for fault in package.get("vulns", ())
    ]
    skipped = sum("skip_reason" in package for package in packages)
    summary = f"audit: {len(finds)} published vulnerabilities in {len(packages) - skipped} packages of {requirements}"
    sys.stdout.write("\n".join([*finds, summary + (f"; {skipped} could not be asked for" if skipped else ""), ""]))
    return 1 if finds else 0


def _skip(reason: str) -> int:
    sys.stdout.write(f"audit skipped, no answer from the index: {reason[:300]}\n")
    return 0


def _remedy(versions: Sequence[str]) -> str:
    if versions:
        return f"fixed in {', '.join(versions)}"
    return "not fixed yet (AUDIT_IGNORE in the Makefile, with the reason)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
