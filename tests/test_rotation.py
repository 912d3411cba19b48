"""Mounted secrets as Kubernetes swaps them, and what becomes of a change; without Kafka."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from dataflow import rotation
from dataflow.config.mounted_files import digests, mounted_files
from dataflow.config.secret import Secret as Password
from dataflow.config.settings import KafkaSettings, Settings
from dataflow.config.variables import VARIABLES
from dataflow.errors import StartRefusedError
from dataflow.gateways import registry
from dataflow.gateways.port import Gateway
from dataflow.kafka import preflight
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.redaction import redact_text
from dataflow.observability.rotation_metrics import RotationMetrics
from dataflow.observability.status import About, Status
from dataflow.rotation import Mounted, SecretWatch
from dataflow.service.shutdown import Lifecycle
from schemas.replies import Misconfigured
from tests.support.kafka.certificates import write
from tests.support.mounted_secret import Secret
from tests.support.required import REQUIRED

SOON_S, LATER_S = 100.0, 10_000.0


@pytest.fixture
def mounted(tmp_path: Path) -> Secret:
    return Secret(tmp_path / "kafka-user", username="payments", password="hunter2-hunter2")


@pytest.fixture
def environ(mounted: Secret) -> dict[str, str]:
    return REQUIRED | {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME_FILE": str(mounted.path("username")),
        "KAFKA_SASL_PASSWORD_FILE": str(mounted.path("password")),
    }


@pytest.fixture
def lifecycle() -> Lifecycle:
    return Lifecycle(Status(About("1"), LivenessLimits(30)))


def watch(
    environ: dict[str, str], lifecycle: Lifecycle, check: Callable[[list[str]], None]
) -> SecretWatch:
    return SecretWatch(Mounted(environ), Settings.from_env(environ), lifecycle, check)


def look(watching: SecretWatch, *times_s: float) -> None:
    for now_s in times_s:
        watching.look(now_s)


def refuse(_changed: list[str]) -> None:
    raise StartRefusedError("Kafka refused the login")


# ---- the files ----


def test_a_swap_of_the_directory_changes_only_what_has_another_content(
    mounted: Secret, environ: dict[str, str]
) -> None:
    files = mounted_files(environ, None)
    before = digests(files)
    mounted.swap(username="payments", password="hunter2-hunter2")
    assert digests(files) == before
    mounted.swap(username="payments", password="hunter3-hunter3")
    after = digests(files)
    assert [name for name in files if before[name] != after[name]] == ["KAFKA_SASL_PASSWORD_FILE"]
    mounted.path("password").unlink()
    assert digests(files)["KAFKA_SASL_PASSWORD_FILE"] == ""


def test_every_file_with_a_secret_or_a_certificate_is_watched(tmp_path: Path) -> None:
    """Those that are not: a mapping, which changes after a clean stop."""
    file = tmp_path / "client.properties"
    file.write_text(f"ssl.keystore.location={tmp_path / 'a.p12'}\n")
    readable = [each.name for each in VARIABLES if "readable file" in each.kind.expects]
    names = {f"{each.name}_FILE" for each in VARIABLES if each.secret} | set(readable)
    environ = dict.fromkeys(names, "/any")
    properties = Settings.from_env(
        REQUIRED | {"KAFKA_CLIENT_PROPERTIES_FILE": str(file)}
    ).kafka.client_properties
    found = mounted_files(environ | {"KAFKA_CLIENT_PROPERTIES_FILE": str(file)}, properties)
    assert found.keys() == names - {"HTTP_GATEWAY_MAPPING"} | {
        "KAFKA_CLIENT_PROPERTIES_FILE",
        "KAFKA_CLIENT_PROPERTIES_FILE:ssl.keystore.location",
    }
    assert len(names) > 10


# ---- what becomes of a change ----


def test_a_change_that_holds_stops_the_process_in_order_and_starts_it_again(
    mounted: Secret, environ: dict[str, str], lifecycle: Lifecycle
) -> None:
    asked: list[list[str]] = []
    watching = watch(environ, lifecycle, asked.append)
    mounted.swap(username="payments", password="hunter3-hunter3")
    watching.look(0)
    watching.look(SOON_S)
    assert asked == [["KAFKA_SASL_PASSWORD_FILE"]]
    assert not lifecycle.restart_wanted
    watching.look(LATER_S)
    assert (lifecycle.stopping, lifecycle.restart_wanted) == (True, True)
    assert watching.refused() == []


def test_a_change_is_checked_once_more_before_the_restart(
    mounted: Secret,
    environ: dict[str, str],
    lifecycle: Lifecycle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Kafka may be away by then, or the new password withdrawn; once it holds, it is taken over."""
    problems = [None, "Kafka is away", None, None]

    def check(_changed: list[str]) -> None:
        if (problem := problems.pop(0)) is not None:
            raise StartRefusedError(problem)

    watching = watch(environ, lifecycle, check)
    mounted.swap(username="payments", password="hunter3-hunter3")
    look(watching, 0.0, SOON_S, LATER_S)
    assert not lifecycle.stopping
    assert watching.refused() == ["KAFKA_SASL_PASSWORD_FILE"]
    assert "Kafka is away" in capsys.readouterr().out
    watching.look(2 * LATER_S)
    assert watching.refused() == []
    assert not lifecycle.stopping
    watching.look(3 * LATER_S)
    assert lifecycle.restart_wanted
    assert problems == []


def test_a_check_that_fails_is_no_check_that_holds(
    mounted: Secret, environ: dict[str, str], lifecycle: Lifecycle
) -> None:
    """A gateway of another package may raise anything."""

    def check(_changed: list[str]) -> None:
        raise ZeroDivisionError

    watching = watch(environ, lifecycle, check)
    mounted.swap(username="payments", password="hunter3-hunter3")
    look(watching, 0.0, SOON_S, LATER_S)
    assert not lifecycle.stopping
    assert watching.refused() == ["KAFKA_SASL_PASSWORD_FILE"]


def test_a_change_that_is_taken_back_is_logged_and_refused_no_longer(
    mounted: Secret,
    environ: dict[str, str],
    lifecycle: Lifecycle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watching = watch(environ, lifecycle, refuse)
    mounted.swap(username="payments", password="hunter3-hunter3")
    look(watching, 0.0, SOON_S)
    assert watching.refused() != []
    mounted.swap(username="payments", password="hunter2-hunter2")
    look(watching, LATER_S, 2 * LATER_S, 3 * LATER_S)
    assert watching.refused() == []
    assert not lifecycle.stopping
    assert capsys.readouterr().out.count("the secrets are again those that are in use") == 1


def test_a_change_that_does_not_hold_is_logged_and_counted_and_stops_nothing(
    mounted: Secret,
    environ: dict[str, str],
    lifecycle: Lifecycle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watching = watch(environ, lifecycle, refuse)
    [family] = RotationMetrics(watching.refused).collect()
    assert family.samples[0].value == 0
    mounted.swap(username="payments", password="hunter3-hunter3")
    look(watching, 0.0, SOON_S, LATER_S, 2 * LATER_S)
    assert not lifecycle.stopping
    [family] = RotationMetrics(watching.refused).collect()
    assert family.samples[0].value == 1
    logged = capsys.readouterr().out
    assert logged.count("changed secrets cannot be used: the old ones stay in use") == 1
    assert "Kafka refused the login" in logged
    assert "hunter" not in logged


def test_a_change_before_the_watch_begins_is_not_missed(
    mounted: Secret, environ: dict[str, str], lifecycle: Lifecycle
) -> None:
    """A start may wait for Kafka for hours."""
    at_start, settings = Mounted(environ), Settings.from_env(environ)
    mounted.swap(username="payments", password="hunter3-hunter3")
    watching = SecretWatch(at_start, settings, lifecycle, lambda _changed: None)
    look(watching, 0.0, SOON_S, LATER_S)
    assert lifecycle.restart_wanted


def test_a_signal_wins_over_a_restart(
    mounted: Secret, environ: dict[str, str], lifecycle: Lifecycle
) -> None:
    lifecycle._signalled = True
    watching = watch(environ, lifecycle, lambda _changed: None)
    mounted.swap(username="payments", password="hunter3-hunter3")
    look(watching, 0.0, SOON_S, LATER_S)
    assert not lifecycle.restart_wanted


def test_a_process_that_stops_looks_no_more(
    environ: dict[str, str], lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = watch(environ, lifecycle, refuse)
    watching._wait = lambda _s: lifecycle.request_stop("SIGTERM")
    monkeypatch.setattr(watching, "look", lambda _now_s: pytest.fail("looked"))
    watching.run()


def test_processes_do_not_start_again_at_the_same_time(
    environ: dict[str, str], lifecycle: Lifecycle
) -> None:
    delays = {watch(environ, lifecycle, refuse)._rotation._delay_s for _ in range(20)}
    assert len(delays) > 10
    least_s, most_s = rotation._DELAY_LEAST_S, rotation._DELAY_LEAST_S + rotation._JITTER_S
    assert all(least_s <= delay_s <= most_s for delay_s in delays)


def test_a_look_that_fails_is_not_the_last_one(
    environ: dict[str, str],
    lifecycle: Lifecycle,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watching = watch(environ, lifecycle, refuse)
    looks = []

    def look(_now_s: float) -> None:
        looks.append(1)
        if len(looks) == 2:
            lifecycle.request_stop("enough")
        raise ZeroDivisionError

    watching._wait = lambda _s: None
    monkeypatch.setattr(watching, "look", look)
    watching.run()
    assert len(looks) == 2
    assert "mounted secrets could not be looked at" in capsys.readouterr().out


def test_no_thread_looks_at_nothing(lifecycle: Lifecycle) -> None:
    watching = watch(REQUIRED, lifecycle, refuse)
    watching.run()
    assert not lifecycle.stopping


# ---- the check ----


def test_settings_that_a_start_would_refuse_do_not_hold(
    mounted: Secret, environ: dict[str, str]
) -> None:
    mounted.swap(username="payments", password="")
    with pytest.raises(StartRefusedError, match="KAFKA_SASL_PASSWORD_FILE: the file it names is"):
        rotation.check(environ, ["KAFKA_SASL_PASSWORD_FILE"])


def test_secrets_of_kafka_are_tried_on_kafka_and_masked_before(
    mounted: Secret, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[KafkaSettings] = []
    monkeypatch.setattr(preflight, "inspect", tried.append)
    mounted.swap(username="payments", password="hunter4-hunter4")
    rotation.check(environ, ["KAFKA_SASL_PASSWORD_FILE"])
    assert [kafka.sasl_password for kafka in tried] == [Password("hunter4-hunter4")]
    assert redact_text("a hunter4-hunter4") == "a ***"


def test_secrets_of_a_gateway_are_tried_on_the_provider(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Provider:
        async def probe(self) -> Misconfigured:
            return Misconfigured("HTTP 401")

        async def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(registry, "create", lambda _settings: Provider())
    with pytest.raises(StartRefusedError, match="GATEWAY=simulated: HTTP 401"):
        rotation.check(environ, ["STRIPE_API_KEY_FILE"])
    assert closed == [True]


def test_a_client_certificate_without_its_key_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the pair only one was renewed."""

    async def answers(_gateway: Gateway) -> None:
        """Give no reason why a charge would fail."""

    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(rotation, "_probe", answers)
    old, new = (tmp_path / name for name in ("old", "new"))
    old.mkdir()
    new.mkdir()
    pair, renewed = write(old).server.read_text(), write(new).server.read_text()
    mounted = Secret(tmp_path / "gateway", crt=pair, key=pair)
    environ = REQUIRED | {
        "GATEWAY": "http",
        "HTTP_GATEWAY_URL": "https://provider.example.com",
        "HTTP_GATEWAY_CERTIFICATE": str(mounted.path("crt")),
        "HTTP_GATEWAY_KEY": str(mounted.path("key")),
    }
    rotation.check(environ, ["HTTP_GATEWAY_CERTIFICATE"])
    mounted.swap(crt=renewed, key=pair)
    with pytest.raises(StartRefusedError, match="HTTP_GATEWAY_CERTIFICATE: the PEM files cannot"):
        rotation.check(environ, ["HTTP_GATEWAY_CERTIFICATE"])
    mounted.swap(crt=renewed, key=renewed)
    rotation.check(environ, ["HTTP_GATEWAY_CERTIFICATE", "HTTP_GATEWAY_KEY"])


def test_a_provider_that_never_answers_does_not_end_the_watch(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Provider:
        async def probe(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            """Do nothing."""

    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(registry, "create", lambda _settings: Provider())
    monkeypatch.setattr(rotation, "_PROBE_MOST_S", 0.01)
    with pytest.raises(TimeoutError):
        rotation.check(environ, ["STRIPE_API_KEY_FILE"])


def test_a_new_key_waits_for_a_kafka_that_is_away(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop could not commit, and the start after it would only wait."""

    def away(_kafka: KafkaSettings) -> None:
        raise StartRefusedError("no broker answered")

    monkeypatch.setattr(preflight, "inspect", away)
    with pytest.raises(StartRefusedError, match="no broker answered"):
        rotation.check(environ, ["STRIPE_API_KEY_FILE"])


def test_a_gateway_is_left_alone_by_a_change_for_kafka(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(registry, "create", lambda _settings: 1 / 0)
    rotation.check(environ, ["KAFKA_SASL_PASSWORD_FILE"])
