"""``python -m configs [PREFIX]`` prints the schema as a Markdown table (docs/configuration.md)."""

import sys

from configs.defaults import KEYS


def markdown_table(prefix: str = "") -> str:
    """The keys that begin with ``prefix``: name, default, allowed values, meaning."""
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for name, key in KEYS.items():
        if name.startswith(prefix):
            default = repr(key.default).replace("'", "")
            allowed = key.rule.text if key.rule else type(key.default).__name__
            rows.append(f"| `{name}` | `{default or ' '}` | {allowed} | {key.meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown_table(sys.argv[1] if len(sys.argv) > 1 else ""))
