"""Any environment at all gives settings, or a refusal that names variables; never a traceback."""

import os
import re

from hypothesis import given
from hypothesis import strategies as st

from dataflow.config.settings import Settings
from dataflow.config.variables import VARIABLES
from dataflow.errors import SettingsError
from tests.explore import examples
from tests.support.required import REQUIRED

NAMES = [variable.name for variable in VARIABLES]
FILES = [f"{variable.name}_FILE" for variable in VARIABLES if variable.secret]
SYNONYMS = [variable.synonym for variable in VARIABLES if variable.synonym]
SECRET = "correct-horse-battery"

# As the operating system hands them over: bytes that are no UTF-8 become lone surrogates.
anything = st.binary(max_size=30).map(
    lambda raw: os.fsdecode(raw.replace(b"\0", b"")),
)
plausible = st.sampled_from(
    [
        *(
            "",
            " ",
            "0",
            "1",
            "-1",
            "8",
            "٣",
            "1e3",
            "NaN",
            "inf",
            "true",
            "60s",
            "7d",
            "0ms",
            "1.5",
        ),
        *("999999999999d", "0.02", "1_000", "0x10", "65536", "99999999999999999999"),
        *("PLAINTEXT", "sasl_ssl", "SSL", "PLAIN", "localhost:9092", "[::1]:9092", "a:b", ":1"),
        *("a.topic", "..", "a/b", "/", "/dev/null", "/etc/hostname", "/nonexistent", "~", "."),
        *("simulated", "info", "WARN", "\n", "a\nb", "\x1b[31m", "x" * 5000, "ä", "\u2028"),
        *(variable.example or variable.default for variable in VARIABLES),
    ]
)
texts = anything | plausible
names = st.one_of(
    st.sampled_from([*NAMES, *FILES, *SYNONYMS]),
    st.sampled_from(NAMES).map(lambda name: name + "S"),
    st.sampled_from(["KAFKA_", "GATEWAY_", "SIMULATED_", "BYTEWAX_", ""]).flatmap(
        lambda prefix: anything.map(lambda rest: prefix + rest.replace("=", ""))
    ),
)
environments = st.tuples(
    st.sampled_from([{}, REQUIRED]), st.dictionaries(names, texts, max_size=12)
).map(lambda parts: parts[0] | parts[1])


@examples(40)
@given(environments)
def test_settings_or_a_refusal(environ: dict[str, str]) -> None:
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        problems = error.problems
    else:
        assert set(settings.masked()) <= set(NAMES)
        return
    assert problems
    for problem in problems:
        assert re.fullmatch(r"[^\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]+", problem), problem
        name = problem.partition(":")[0]
        assert name in {*NAMES, *FILES, *SYNONYMS} or "did you mean" in problem


@examples(40)
@given(environments, st.sampled_from(FILES + [name.removesuffix("_FILE") for name in FILES]))
def test_no_secret_is_shown(environ: dict[str, str], name: str) -> None:
    """Nor what is given for its path: that is the likeliest place to put one by mistake."""
    told = environ | {name: SECRET}
    try:
        text = repr(Settings.from_env(told)) + str(Settings.from_env(told).masked())
    except SettingsError as error:
        text = str(error)
    assert SECRET not in text
