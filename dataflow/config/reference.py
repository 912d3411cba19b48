"""The environment's documents, made from the table of variables so that they cannot drift.

python -m dataflow.config.reference env > .env.example
python -m dataflow.config.reference markdown        # the table in docs/configuration.md
python -m dataflow.config.reference essential       # the table in README.md
"""

import sys
from collections.abc import Iterable

from dataflow.config.variables import ALWAYS, GROUPS, VARIABLES, Variable

ESSENTIAL = (
    "KAFKA_BROKERS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "GATEWAY",
    "DEDUPE_WINDOW",
    "COMMIT_INTERVAL",
    "LANES",
)
"""The variables that the README has."""
BYTEWAX = """\
# --- Bytewax (read by `python -m bytewax.run` itself) ---

# Directory of the recovery store and of the files of remembered paymentIds; it is made if it is not
# there. It may be lost: what is remembered is in Kafka. Without one, all paymentIds are in memory,
# and a start reads all of them from Kafka. The image sets it to its volume.
#BYTEWAX_RECOVERY_DIRECTORY=recovery

# 0: every batch is an epoch, and COMMIT_INTERVAL paces them. Bytewax asks for a number; with a
# greater one the service runs itself again with 0, or -1 where there is no recovery directory.
BYTEWAX_SNAPSHOT_INTERVAL=0

# Seconds for which old snapshots are kept: only 0 goes with that.
BYTEWAX_RECOVERY_BACKUP_INTERVAL=0

# Worker threads in each process.
#BYTEWAX_WORKERS_PER_PROCESS=1

# Several processes: the number of this one, from 0, and the addresses of all.
#BYTEWAX_PROCESS_ID=0
#BYTEWAX_ADDRESSES=localhost:2101;localhost:2102
"""


def env_example() -> str:
    """Return the text of `.env.example`."""
    lines = [
        "# Environment of the payments dataflow. Copy to .env and adapt.",
        "# A line that is commented out shows the default; the others are required, or differ from",
        "# it for a reason. An empty value counts as unset.",
        "# Durations: a whole number with a unit, such as 500ms, 30s, 15m, 12h or 7d.",
        "",
    ]
    for title, group in GROUPS.items():
        lines += [f"# --- {title} ---", ""]
        for variable in group:
            lines += [*_entry(variable), ""]
    return "\n".join(lines) + "\n" + BYTEWAX


def markdown(variables: Iterable[Variable] = VARIABLES) -> str:
    """Return the table of the documents."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for variable in variables:
        default = f"`{variable.default}`" if variable.default else "—"
        lines.append(f"| `{variable.name}` | {default} | {_meaning(variable)} |")
    return "\n".join(lines) + "\n"


def essential() -> str:
    """Return the README's table."""
    by_name = {variable.name: variable for variable in VARIABLES}
    return markdown(by_name[name] for name in ESSENTIAL)


def _entry(variable: Variable) -> list[str]:
    lines = [f"# {_meaning(variable)}"]
    if variable.required == ALWAYS:
        return [*lines, f"{variable.name}={variable.example}"]
    if not variable.default:
        lines.append(f"# Example: {variable.name}={variable.example}")
    comment = "" if variable.required else "#"
    lines.append(f"{comment}{variable.name}={variable.default}")
    if variable.secret:
        lines.append(f"#{variable.name}_FILE=")
    return lines


def _meaning(variable: Variable) -> str:
    meaning = variable.doc
    if variable.required:
        when = "" if variable.required == ALWAYS else f" {variable.required}"
        meaning += f" Required{when}."
    if variable.secret:
        meaning += f" Or {variable.name}_FILE: the path of a file with it."
    return meaning


if __name__ == "__main__":
    documents = {"env": env_example, "markdown": markdown, "essential": essential}
    sys.stdout.write(documents[sys.argv[1]]())
