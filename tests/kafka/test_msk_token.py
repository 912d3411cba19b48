"""The callback for Amazon MSK: AWS's own signature, with made-up credentials and without AWS.

Whether MSK accepts the token is not shown here: there is none to ask.
"""

import base64
import re
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from urllib.parse import parse_qs, urlparse

import pytest

from dataflow.config.settings import KafkaSettings, Settings
from dataflow.errors import SettingsError
from dataflow.kafka import client_config, msk_token
from tests import ROOT
from tests.support.required import REQUIRED

REGION = "eu-central-1"
SECRET_KEY = "an-example-secret-access-key"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@pytest.fixture(autouse=True)
def no_other_credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no token of another test, and no way to look for credentials on this machine."""
    msk_token.signer.cache_clear()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/none")
    yield
    msk_token.signer.cache_clear()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def kafka() -> KafkaSettings:
    login = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM",
        "AWS_REGION": REGION,
    }
    return Settings.from_env(REQUIRED | login).kafka


@pytest.mark.usefixtures("credentials")
def test_the_token_is_a_request_to_connect_that_is_signed_for_the_region(
    kafka: KafkaSettings,
) -> None:
    config = client_config.client(kafka, "any")
    assert config["sasl.mechanism"] == "OAUTHBEARER"
    token, expires_s = config["oauth_cb"](None)
    url = urlparse(base64.urlsafe_b64decode(token + "==").decode())
    query = parse_qs(url.query)
    assert url.netloc == f"kafka.{REGION}.amazonaws.com"
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Credential"][0].startswith("AKIDEXAMPLE/")
    assert f"/{REGION}/kafka-cluster/" in query["X-Amz-Credential"][0]
    assert len(query["X-Amz-Signature"][0]) == 64
    assert SECRET_KEY not in url.query
    # Fifteen minutes, in seconds: milliseconds would never expire.
    assert 1_700_000_000 < expires_s < 10_000_000_000


@pytest.mark.usefixtures("credentials")
def test_all_clients_share_a_token_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    now = [1000.0]

    def generate(region: str) -> tuple[str, int]:
        asked.append(region)
        return f"{len(asked)}", 9000

    module = ModuleType("provider")
    monkeypatch.setattr(module, "generate_auth_token", generate, raising=False)
    monkeypatch.setitem(sys.modules, msk_token._LIBRARY, module)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    first, second = msk_token.signer(REGION), msk_token.signer(REGION)
    assert first(None) == second(None) == ("1", 9.0)
    now[0] += msk_token._SHARED_S + 1
    assert second(None) == ("2", 9.0)
    assert asked == [REGION, REGION]


def test_a_lack_of_credentials_is_logged_and_left_to_the_client(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(AttributeError):
        msk_token.signer(REGION)(None)
    assert "no token for MSK: are there AWS credentials?" in capsys.readouterr().out


def test_the_library_is_an_extra_of_the_package(
    monkeypatch: pytest.MonkeyPatch, kafka: KafkaSettings
) -> None:
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    monkeypatch.delitem(sys.modules, msk_token._LIBRARY, raising=False)
    with pytest.raises(SettingsError, match="needs the extra `msk`"):
        client_config.client(kafka, "any")


def test_the_region_is_required() -> None:
    login = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"}
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(REQUIRED | login)
    [problem] = caught.value.problems
    assert problem.startswith("KAFKA_AWS_REGION: required when KAFKA_SECURITY_PROTOCOL is SASL_SSL")
    assert "KAFKA_SASL_MECHANISM is AWS_MSK_IAM" in problem


def test_the_image_with_the_extra_has_the_same_versions_and_the_library() -> None:
    """A version of the one lock that the other has not would be untested."""
    plain, extra, dev = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-msk.txt", "requirements-dev.txt")
    )
    assert plain.items() <= extra.items() <= dev.items()
    assert "aws-msk-iam-sasl-signer-python" in extra.keys() - plain.keys()
