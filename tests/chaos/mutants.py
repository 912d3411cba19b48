"""The test that fails for each mutation, and the proof: `make mutants`.

Each mutant is the product with one of its guarantees taken away (`tests/support/hooks`). The tests
that are named must fail for it, and pass without it: a test that never failed has proved nothing.
"""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from tests import ROOT
from tests.support.hooks import SITE
from tests.support.kafka import Broker, distribution

_TIMEOUT_S = 240

_ONCE = "tests/integration/test_exactly_once.py::"
_BEFORE = "test_killed_again_and_again[before-commit:6, before-commit:1, decided:3, mid-batch:6]"
_AFTER = (
    "test_killed_again_and_again[after-commit:6, after-commit:4, after-commit:2, after-commit:1]"
)
_OUTAGES = "tests/integration/test_outages.py::"
_REFUSALS = "tests/integration/test_start_refusals.py::"
_LOG = "tests/integration/test_lane_log.py::"
_FILES = "tests/integration/test_remembered_files.py::"
_DELIVERY = "tests/integration/test_deliveries.py::"
_MIGRATION = "tests/integration/test_migration.py::"
_PARKING = "tests/integration/test_parking.py::"
_FETCHING = "tests/integration/test_stopped_fetching.py::"
_CALLS = "tests/gateways/test_dispatcher.py::"
_STRIPE = "tests/gateways/test_stripe.py::"
_SCHEMAS = "tests/schema_registry/"

KILLERS: Mapping[str, str] = {
    "offsets-outside-the-transaction": f"{_ONCE}test_killed_again_and_again[flushed:6]",
    "outcomes-outside-the-transaction": f"{_ONCE}{_BEFORE}",
    "claims-outside-the-transaction": (
        f"{_OUTAGES}test_an_id_that_only_a_zombie_has_claimed_is_a_copy[no files]"
    ),
    "snapshot-before-commit": f"{_ONCE}{_BEFORE}",
    "delivery-errors-ignored": f"{_DELIVERY}test_a_record_that_kafka_refuses_ends_the_flow",
    "abort-instead-of-die": f"{_DELIVERY}test_a_record_that_kafka_refuses_ends_the_flow",
    "fencing-ignored": f"{_OUTAGES}test_a_zombie_cannot_commit",
    "no-fencing": f"{_OUTAGES}test_a_zombie_cannot_commit",
    "group-offset-without-its-records": (
        f"{_REFUSALS}test_lost_offsets_of_the_lanes_are_noticed_without_a_recovery_directory"
    ),
    "leftovers-ignored": f"{_REFUSALS}test_a_transaction_without_an_end_in_the_outputs",
    "claims-of-aborted-transactions": (
        f"{_LOG}test_claims_of_an_aborted_transaction_claim_nothing"
    ),
    "no-restore": f"{_LOG}test_nothing_is_forgotten_with_the_recovery_directory[None-deleted]",
    "no-replay": f"{_ONCE}{_AFTER}",
    "log-read-before-fencing": f"{_LOG}test_the_log_is_read_after_the_run_before_is_fenced",
    "files-of-what-is-not-committed": (
        f"{_OUTAGES}test_an_id_that_only_a_zombie_has_claimed_is_a_copy[the files of the zombie]"
    ),
    "foreign-files-believed": f"{_FILES}test_files_of_another_flow_are_thrown_away",
    "files-beyond-the-log-believed": (
        f"{_FILES}test_files_that_reach_beyond_the_log_are_thrown_away"
    ),
    "files-of-the-next-process-stated": (
        "tests/steps/test_dedupe.py"
        "::TestFiles::test_a_process_that_was_fenced_states_nothing_of_what_the_next_one_writes"
    ),
    "damage-unseen": (f"{_FILES}test_a_damaged_block_ends_the_process_and_the_next_one_goes_on"),
    "lost-log-ignored": (
        f"{_LOG}test_a_lost_log_is_refused_and_the_remedy_works[shortened-without one]"
    ),
    "no-check-of-the-snapshot": (
        f"{_REFUSALS}test_a_snapshot_ahead_of_the_committed_offsets_and_the_remedy"
    ),
    "another-service-unseen": f"{_MIGRATION}test_a_cut_over_a_roll_back_and_a_second_cut_over",
    "offsets-of-others-for-our-own": (
        f"{_MIGRATION}test_a_cut_over_a_roll_back_and_a_second_cut_over"
    ),
    "lost-partition-for-a-new-one": (
        f"{_REFUSALS}test_offsets_that_only_one_partition_has_lost[of one lane]"
    ),
    "no-first-refreshes": (
        f"{_LOG}test_a_store_from_before_lanes_were_added_repeats_nothing[without]"
    ),
    "clock-believed": f"{_LOG}test_a_clock_that_jumps_ahead_forgets_nothing",
    "clock-unconfirmed": (
        f"{_LOG}test_a_start_with_a_clock_that_is_far_ahead_forgets_nothing_and_is_refused"
    ),
    "group-offset-too-early": (
        f"{_REFUSALS}test_a_lost_recovery_directory_repeats_nothing_committed[claims-flushed:2]"
    ),
    "no-lock": f"{_REFUSALS}test_a_recovery_directory_in_use",
    "lanes-by-partition": f"{_ONCE}{_AFTER}",
    "fingerprint-ignored": f"{_ONCE}test_one_process_decides_50000_requests_once",
    "window-never-forgotten": (f"{_LOG}test_ids_of_every_partition_leave_the_window_after_a_crash"),
    "window-forgotten-too-early": (
        "tests/steps/test_dedupe.py"
        "::TestDates::test_every_id_lives_as_long_as_it_does_without_a_restart"
    ),
    "date-by-the-record": (
        f"{_LOG}test_a_first_start_on_strange_timestamps_forgets_nothing[ten days old]"
    ),
    "requests-of-aborted-transactions": f"{_DELIVERY}test_a_request_that_was_taken_back",
    "end-as-the-client-saw-it": (
        "tests/observability/test_partition_progress.py"
        "::TestLag::test_a_client_that_repeats_itself_does_not_hide_the_end_from_kafka"
    ),
    "silence-without-a-witness": (
        f"{_FETCHING}test_an_aborted_transaction_below_an_open_one_is_no_fault"
    ),
    "charged-before-the-claim-is-committed": (
        "tests/steps/test_process.py"
        "::TestCharging::test_claims_go_ahead_and_nothing_is_charged_in_their_epoch"
    ),
    "claims-of-the-last-run-are-repeats": (
        f"{_PARKING}test_killed_between_claim_and_outcome[charged-not-committed:1]"
    ),
    "claims-of-a-deleted-topic-count": (f"{_REFUSALS}test_a_recreated_topic_with_the_same_records"),
    "parked-outside-the-transaction": (
        f"{_PARKING}test_killed_between_claim_and_outcome[parked-not-committed:1]"
    ),
    "positions-that-do-not-lag": (
        f"{_PARKING}test_killed_between_claim_and_outcome[charged-not-committed:1]"
    ),
    "answers-emitted-while-restoring": (
        "tests/steps/test_process.py::TestRestart::test_nothing_is_emitted_while_lanes_restore"
    ),
    "a-hold-kept-to-itself": f"{_PARKING}test_two_processes_hold_together",
    "posted-with-an-expired-key": f"{_CALLS}test_nothing_is_posted_under_an_old_key",
    "new-key-after-a-timeout": (
        f"{_CALLS}test_a_payment_without_an_answer_is_sent_again_under_the_same_key"
    ),
    "failover-on-unknown": (
        "tests/gateways/test_dispatched.py"
        "::test_a_lost_answer_is_one_charge_in_the_books_of_two_providers"
    ),
    "calls-too-many-ignored": (f"{_CALLS}test_one_call_too_many_slows_all_calls_down[too_many0]"),
    "calls-too-many-as-an-outage": f"{_CALLS}test_very_many_calls_too_many_are_no_outage",
    "keys-that-do-not-age-while-suspended": (
        f"{_OUTAGES}test_a_zombie_charges_nothing_under_an_old_key"
    ),
    "decided-without-the-provider": (
        f"{_CALLS}test_a_persons_decision_waits_for_a_provider_that_is_away"
    ),
    "posted-though-a-person-has-decided": (
        f"{_CALLS}test_nothing_is_posted_once_a_person_has_decided"
    ),
    "decisions-ended-outside-the-transaction": (
        "tests/integration/test_tools.py::test_a_decision_outlives_a_stop_and_a_crash"
    ),
    "records-that-wait-are-passed": (
        "tests/kafka/test_partition_reader.py::TestRecordsThatWaitForASchema"
        "::test_they_are_read_once_their_schema_is_there_and_none_is_lost"
    ),
    "decimals-of-the-library": (
        f"{_SCHEMAS}test_requests.py"
        "::TestAmounts::test_a_decimal_beyond_its_precision_is_not_rounded"
    ),
    "gateway-left-open": (
        "tests/integration/test_stopping.py::test_the_gateway_is_closed_once_at_the_end"
    ),
    "minor-units-of-iso": f"{_STRIPE}test_the_minor_units_are_those_of_stripe[ISK-100-10000]",
    "decimals-of-a-gateway-ignored": (
        f"{_CALLS}test_an_amount_that_the_provider_does_not_take_is_declined_without_a_call"
        "[decimals3-False]"
    ),
    "refusals-always-believed": (
        "tests/gateways/test_dispatched.py"
        "::test_the_key_of_another_account_declines_no_more_than_a_few_payments[True]"
    ),
    "refusals-end-their-own-row": (
        f"{_CALLS}test_refusals_of_everybody_are_a_hold_and_are_not_published"
    ),
    "saved-error-as-a-decline": (
        f"{_STRIPE}test_a_lost_answer_is_unknown_and_the_charge_happens_once"
        "[saved_500_after-Unknown-1]"
    ),
    "saved-errors-are-posted-again": (
        "tests/gateways/test_dispatched.py::test_a_saved_failure_is_looked_up"
    ),
    "timeout-as-not-executed": (
        f"{_STRIPE}test_a_lost_answer_is_unknown_and_the_charge_happens_once[hang_after-Unknown-1]"
    ),
    "answers-of-other-payments": (
        "tests/gateways/test_http.py::test_the_contract_has_the_payment_in_its_answers"
    ),
    "unrequested-answers": (
        "tests/gateways/test_http_client.py::test_an_unrequested_answer_decides_no_payment[0.05]"
    ),
    "payer-left-waiting": (
        f"{_STRIPE}test_a_payment_that_needs_its_payer_is_cancelled_and_declined"
    ),
    "impossible-timestamps-believed": (
        "tests/integration/test_lane.py"
        "::test_timestamps_that_cannot_be_true_are_counted_and_in_no_latency"
    ),
    "audit-event-dropped": f"{_ONCE}test_two_processes",
    "event-ids-at-random": (
        "tests/schemas/test_events.py::TestEventId::test_the_same_record_has_the_same_id"
    ),
    "money-as-a-float": (
        "tests/schemas/test_events.py"
        "::TestAmount::test_it_is_a_json_number_with_the_digits_that_were_sent"
    ),
}
"""By mutation, the test that fails for it."""
SLOW = {
    "abort-instead-of-die",
    "no-fencing",
    "no-check-of-the-snapshot",
    "leftovers-ignored",
    "window-never-forgotten",
    "another-service-unseen",
    "offsets-of-others-for-our-own",
    "lost-partition-for-a-new-one",
    "no-first-refreshes",
    "clock-unconfirmed",
    "silence-without-a-witness",
    "decisions-ended-outside-the-transaction",
    "refusals-always-believed",
    "refusals-end-their-own-row",
    "claims-of-aborted-transactions",
    "a-hold-kept-to-itself",
    "decided-without-the-provider",
}
"""Their tests wait for something: half a minute and more each. Some wait for what then never comes,
until their limit."""


def environ(mutation: str = "") -> dict[str, str]:
    """Return the environment of a test run with a mutation, for the flows it starts, too."""
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "BREAK"}}
    path = {"PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}"}
    return kept | path | ({"BREAK": mutation} if mutation else {})


def fails(test: str, env: Mapping[str, str]) -> bool:
    """Return whether a test fails; anything but a pass or a failure is an error."""
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={_TIMEOUT_S}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, test],
        cwd=ROOT,
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, f"{test}: exit code {done.returncode}\n{done.stdout}"
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout
    return done.returncode == 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests against the mutants; 0 if all of them were noticed."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; default: all", metavar="MUTATION")
    parser.add_argument(
        "--brief",
        action="store_true",
        help="after `make test`, which has seen the tests pass: without that, and the slow ones",
    )
    given = parser.parse_args(arguments)
    left_out = SLOW if given.brief else set()
    names = given.names or [name for name in KILLERS if name not in left_out]
    unbroken = [] if given.brief else [KILLERS[name] for name in names]
    reason = distribution.missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    distribution.jars()
    unnoticed = []
    with Broker.start() as broker:
        kafka = {"KAFKA_TEST_BROKERS": broker.bootstrap}
        for test in dict.fromkeys(unbroken):
            if fails(test, environ() | kafka):
                print(f"FAILS ANYHOW  {test}")
                unnoticed.append(test)
        for name in names:
            started = time.monotonic()
            noticed = fails(KILLERS[name], environ(name) | kafka)
            seconds = time.monotonic() - started
            print(f"{'noticed' if noticed else 'NOT NOTICED':12} {name:36} {seconds:4.0f} s")
            sys.stdout.flush()
            if not noticed:
                unnoticed.append(name)
    print(f"{len(names)} mutations, {len(unnoticed)} problems")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
