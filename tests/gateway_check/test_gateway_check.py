"""`payments gateway-check`: against the fake provider, and against deliberately bad ones."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dataflow.fake_provider.process import FakeProvider
from dataflow.gateway_check import command
from dataflow.gateways import mapping
from tests import ROOT

WITHOUT_LOOKUP = re.sub(r"\[lookup\]\npath = .*\n", "", mapping.CONTRACT)
PROBE = "the probe answers"
DECIDED = "a payment is approved, with a reference"
REPLAY = "the same key has the same answer"
OTHER = "other content under a used key is refused"
LOOKUP = "the lookup finds what was charged, and nothing else"
AT_ONCE = "8 requests with one key at the same time are one charge"
LOST = "a charge whose answer was lost is charged once"
ALL = [PROBE, DECIDED, REPLAY, OTHER, LOOKUP, AT_ONCE, LOST]

Run = Callable[..., tuple[int, dict[str, str]]]


@pytest.fixture
def run(provider: FakeProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that checks the provider: the exit code, and each guarantee's mark."""
    (tmp_path / "key").write_text("sk_test_fake\n")

    def run(*arguments: str, url: str = "") -> tuple[int, dict[str, str]]:
        given = ["--credentials-file", str(tmp_path / "key"), "--payment-method", "pm_1"]
        code = command.main([url or provider.url, *given, *arguments], {})
        lines = re.findall(r"^(yes|NO|-) +(.+?)  \(.*\)$", capsys.readouterr().out, re.MULTILINE)
        return code, {name: mark for mark, name in lines}

    return run


def test_all_guarantees_hold_with_a_good_provider(run: Run, provider: FakeProvider) -> None:
    provider.change(latency_s=0.05)
    assert run() == (0, dict.fromkeys(ALL, "yes"))


@pytest.mark.parametrize(
    ("settings", "broken", "unclear"),
    [
        ({"ignores_keys": True}, {REPLAY, OTHER, AT_ONCE, LOST}, {LOOKUP}),
        ({"ignores_content": True}, {OTHER}, set()),
        ({"waits_in_flight": False, "latency_s": 1.5}, {AT_ONCE}, {LOST}),
        ({"has_lookup": False}, {LOOKUP}, set()),
        ({"key_life_s": 0}, {REPLAY, OTHER, AT_ONCE, LOST}, {LOOKUP}),
    ],
)
def test_a_bad_provider_is_found_out(
    run: Run,
    provider: FakeProvider,
    settings: dict[str, object],
    broken: set[str],
    unclear: set[str],
) -> None:
    """The unclear answers may be right by chance: the lookup may find the first of many charges."""
    provider.change(**settings)
    code, marks = run()
    assert code == 1
    assert {name: mark for name, mark in marks.items() if name not in unclear} == {
        name: "NO" if name in broken else "yes" for name in ALL if name not in unclear
    }
    assert len(marks) == len(ALL)


def test_declines_show_nothing(run: Run, provider: FakeProvider) -> None:
    """They are alike, also those of a provider to which each request is another payment."""
    provider.change(ignores_keys=True)
    code, marks = run("--payment-method", "pm_decline_insufficient_funds")
    assert (code, marks) == (1, {PROBE: "yes", DECIDED: "NO"})


def test_approvals_without_a_reference_show_nothing(
    run: Run, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.change(ignores_keys=True)
    file = tmp_path / "provider.toml"
    file.write_text(mapping.CONTRACT.replace('reference = "/reference"', ""))
    code, marks = run("--mapping", str(file))
    assert (code, marks) == (1, {PROBE: "yes", DECIDED: "NO"})


def test_operations_that_the_mapping_lacks_are_not_tried(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    file.write_text(WITHOUT_LOOKUP)
    code, marks = run("--mapping", str(file))
    assert code == 0
    assert marks == dict.fromkeys(ALL, "yes") | {LOOKUP: "-"}


def test_an_unreliable_network_is_no_breach(run: Run, provider: FakeProvider) -> None:
    provider.change(faults=[{"fault": "reset_after", "share": 0.3}])
    code, marks = run()
    assert marks[AT_ONCE] == marks[LOST] == "yes"
    assert code in {0, 1}


def test_wrong_credentials_end_it_at_once(run: Run, provider: FakeProvider, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("sk_wrong")
    code, marks = run("--credentials-file", str(tmp_path / "wrong"))
    assert (code, marks) == (1, {PROBE: "NO", DECIDED: "NO"})
    assert not provider.asked("nothing")


def test_a_provider_that_is_down_is_no_error_of_ours(run: Run, provider: FakeProvider) -> None:
    provider.outage(3600)
    code, marks = run("--timeout", "100ms")
    assert (code, marks) == (1, {PROBE: "NO", DECIDED: "NO"})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["provider.example.com"], "argument URL: expected http:// or https://"),
        (["https://a"], "the following arguments are required: --payment-method"),
        (["https://a", "--payment-method", "p", "--amount", "0"], "an amount above 0"),
        (["https://a", "--payment-method", "p", "--amount", "x"], "an amount above 0"),
        (["https://a", "--payment-method", "p", "--currency", "ABC"], "the mapping has no ABC"),
        (["https://a", "--payment-method", "p", "--amount", "1.005"], "takes no 1.005 EUR"),
        (["https://a", "--payment-method", "p", "--amount", "1e12"], "takes no 1E+12 EUR"),
        (["https://a", "--payment-method", "p", "--mapping", "/none"], "/none"),
        (["https://a", "--payment-method", "p", "--timeout", "10"], "a duration from 100ms"),
        (
            ["https://a", "--payment-method", "p", "--credentials-file", "sk_live_oops"],
            "the file cannot be read",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments, {})
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert problem in printed
    assert "sk_live_oops" not in printed


def test_a_file_that_is_no_certificate_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("none")
    given = ["https://a", "--payment-method", "p", "--ca", str(tmp_path / "ca.pem")]
    assert command.main(given, {}) == 2
    assert "HTTP_GATEWAY_CA" in capsys.readouterr().err


def test_a_login_that_does_not_fit_the_mapping_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mapping.toml").write_text(mapping.CONTRACT + '[auth]\nscheme = "basic"\n')
    (tmp_path / "key").write_text("s3cret")
    files = [
        "--mapping",
        str(tmp_path / "mapping.toml"),
        "--credentials-file",
        str(tmp_path / "key"),
    ]
    assert command.main(["https://a", "--payment-method", "p", *files], {}) == 2
    printed = capsys.readouterr().err
    assert "expected user:password" in printed
    assert "s3cret" not in printed


def test_the_guide_explains_every_guarantee_and_its_command_is_right(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "gateways.md").read_text()
    table = re.search(r"\| guarantee \| without it \|\n\|---\|---\|\n((?:\|.*\n)+)", text)
    assert table
    assert re.findall(r"^\| (.+?) \|", table[1], re.MULTILINE) == ALL
    [shown] = re.findall(r"<!-- check -->\n```sh\npayments (.*)\n```", text)
    (tmp_path / "token").write_text("t")
    arguments = shown.replace("https://provider.example.com", "http://127.0.0.1:1").split()
    done = subprocess.run(
        [sys.executable, "-m", "dataflow", *arguments, "--timeout", "100ms"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert (
        "NO   a payment is approved, with a reference  (notexecuted: no connection" in done.stdout
    )
