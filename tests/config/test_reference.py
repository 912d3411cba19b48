"""`.env.example` and the tables of the documents hold what the table of variables holds."""

import os
import re
import subprocess
import sys

import pytest

from dataflow.config import reference
from dataflow.config.settings import Settings
from dataflow.config.variables import ALWAYS, VARIABLES
from tests import ROOT
from tests.support.required import REQUIRED

BYTEWAX = {
    "BYTEWAX_RECOVERY_DIRECTORY",
    "BYTEWAX_SNAPSHOT_INTERVAL",
    "BYTEWAX_RECOVERY_BACKUP_INTERVAL",
    "BYTEWAX_WORKERS_PER_PROCESS",
    "BYTEWAX_PROCESS_ID",
    "BYTEWAX_ADDRESSES",
}
LOGIN = {"KAFKA_SASL_USERNAME": "payments", "KAFKA_SASL_PASSWORD": "secret"}
NEEDED = REQUIRED | {"KAFKA_SECURITY_PROTOCOL": "", **LOGIN}


def example() -> dict[str, str]:
    """Return every assignment in `.env.example`, commented out or not."""
    text = (ROOT / ".env.example").read_text()
    return dict(re.findall("^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))


def test_the_file_is_what_the_table_makes_of_it() -> None:
    """Run `python -m dataflow.config.reference env > .env.example` if this fails."""
    assert (ROOT / ".env.example").read_text() == reference.env_example()


def test_the_example_has_all_variables_and_no_others() -> None:
    ours = {variable.name for variable in VARIABLES}
    files = {f"{variable.name}_FILE" for variable in VARIABLES if variable.secret}
    assert set(example()) == ours | files | BYTEWAX


def test_the_example_reads_as_the_defaults() -> None:
    filled_in = example() | LOGIN
    assert Settings.from_env(filled_in) == Settings.from_env(NEEDED)


def test_the_example_documents_each_variable() -> None:
    text = (ROOT / ".env.example").read_text()
    for variable in VARIABLES:
        assert variable.doc in text


def test_gaps_of_the_example_are_the_required_variables() -> None:
    text = (ROOT / ".env.example").read_text()
    open_lines = re.findall("^([A-Z_]+)=$", text, re.MULTILINE)
    assert open_lines == [
        variable.name for variable in VARIABLES if variable.required not in ("", ALWAYS)
    ]


def test_the_example_sets_what_has_no_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for variable in VARIABLES:
        if variable.required == ALWAYS:
            assert f"{variable.name}={variable.example}" in lines


def test_the_example_leaves_the_image_its_recovery_directory() -> None:
    """As `docker run --env-file` it would put the store beside the volume, on a read-only disk."""
    assert "\nBYTEWAX_RECOVERY_DIRECTORY" not in (ROOT / ".env.example").read_text()


def test_bytewax_has_the_variables_that_are_listed_as_its_own() -> None:
    wide = os.environ | {"COLUMNS": "1000"}  # whatever terminal this is, no name is broken in two
    run_help = subprocess.run(
        [sys.executable, "-m", "bytewax.run", "--help"],
        env=wide,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(f"[env: {name}]" in " ".join(run_help.split()) for name in BYTEWAX)


def test_every_example_in_an_error_is_a_right_value() -> None:
    for variable in VARIABLES:
        value = variable.example or variable.default
        assert value
        if not variable.example.startswith("/"):  # a file of a particular machine
            assert variable.kind.parse(value) is not None


def test_the_table_has_a_row_for_each_variable() -> None:
    rows = reference.markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [variable.name for variable in VARIABLES]


@pytest.mark.parametrize(
    ("name", "text"),
    [("markdown", reference.markdown()), ("essential", reference.essential())],
)
def test_the_documents_can_be_made_from_the_command_line(name: str, text: str) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "dataflow.config.reference", name],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert made.stdout == text
