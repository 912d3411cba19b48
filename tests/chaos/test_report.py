"""The report of a campaign: its columns, and what a campaign lacks."""

import pytest

from dataflow.verify.findings import FindingKind
from tests import ROOT
from tests.chaos import money, report
from tests.chaos.campaign import Campaign, Options, Result
from tests.chaos.catalogue import FAULTS, Stage
from tests.chaos.kills import IN_COMMIT, POINTS
from tests.chaos.shapes import Shape

DOCUMENT = ROOT / "docs" / "reliability.md"


@pytest.mark.parametrize("kind", report.BAD)
def test_a_problem_is_counted_in_the_column_of_its_kind(kind: str) -> None:
    result = Result(1, problems=[f"any-1: {kind}: details, lost: money: seen: (pay-1)"])
    assert report.bad(result) == dict.fromkeys(report.BAD, 0) | {kind: 1}
    assert f"| **{kind}** | 1 |" in report.as_markdown(result)


@pytest.mark.parametrize(
    "problem",
    [
        "any-1: 2 audit events for (0, 1)",
        "any-1, 1 process, http: SIGKILL at flushed: lost: after the flush\nTraceback: money: x",
        "stage: Traceback",
    ],
)
def test_a_problem_of_no_kind_is_counted_as_other(problem: str) -> None:
    assert report.bad(Result(1, problems=[problem]))["other"] == 1


def test_everything_that_the_checker_may_find_has_a_column() -> None:
    """It reads nothing along here, and compacted or empty topics are no campaign's."""
    kinds = {kind.replace("_", " ") for kind in FindingKind}
    assert kinds - {"unseen", "compacted", "empty"} <= set(report.BAD)


def test_the_tables_show_the_money_and_the_restarts() -> None:
    result = Result(1, restarts=20, without_store=11, kills=9)
    result.counts.update({"charges": 1234, "unresolved": 2})
    result.hits.update({"flushed": 3, "decided": 4})
    text = report.as_markdown(result)
    assert "**9 kills**, 3 of them inside a commit" in text
    assert "11 of 20 restarts were without a recovery directory" in text
    assert "| charges | 1,234 |" in text
    assert "| unresolved | 2 |" in text
    assert all(f"| **{column}** | 0 |" in text for column in money.COLUMNS)


def test_the_document_has_the_columns_of_the_code() -> None:
    text = DOCUMENT.read_text()
    begin, end = report.COLUMNS_BEGIN, report.COLUMNS_END
    assert report.put(text, begin, end, report.columns()) == text
    assert report.BEGIN in text
    assert report.END in text


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(AssertionError, match="lacks <!-- columns -->"):
        report.put("nothing", report.COLUMNS_BEGIN, report.COLUMNS_END, "tables")


def whole() -> Result:
    """Return the result of a campaign in which everything was done."""
    result = Result(1, kills=1000, restarts=100, without_store=50)
    result.struck.update(dict.fromkeys((fault.name for fault in FAULTS), 5))
    result.hits.update(dict.fromkeys(POINTS, 25))
    result.hits.update(dict.fromkeys(("first open", "first commit"), 5))
    return result


def campaign_of(result: Result, kills: int = 1000) -> Campaign:
    campaign = Campaign(Options(seed=1, kills=kills, shapes=(Shape(),)))
    campaign.result = result
    return campaign


def missing(result: Result, kills: int = 1000) -> list[str]:
    return list(campaign_of(result, kills)._missing())


def test_a_whole_campaign_lacks_nothing() -> None:
    assert missing(whole()) == []


def test_restarts_without_a_directory_are_demanded() -> None:
    result = whole()
    result.without_store = 49
    assert missing(result) == ["49 of 100 restarts without a directory"]


def test_kills_inside_commits_are_demanded() -> None:
    result = whole()
    for point in IN_COMMIT:
        result.hits[point] = 5
    assert missing(result) == [f"{5 * len(IN_COMMIT)} kills inside a commit, not 200"]


@pytest.mark.parametrize(
    ("inside", "found"), [(99, ["99 kills inside a commit, not 100"]), (100, [])]
)
def test_a_hundred_kills_inside_commits_are_demanded_of_few_kills_too(
    inside: int, found: list[str]
) -> None:
    result = whole()
    for point in IN_COMMIT:
        result.hits[point] = 5
    result.hits["after-commit"] += inside - result.kills_in_commit
    assert missing(result, kills=300) == found
    assert campaign_of(result, kills=300)._goes_on(Stage.ANY) == bool(found)
