"""Faults: what stops the process. Outcomes of a payment are values, never exceptions.

    Fault                    the process must end; a restart resumes from what is committed
    ├── StartRefusedError    starting would risk a payment, or cannot work; needs a person
    │   └── SettingsError    one or more environment variables are wrong or missing
    ├── FencedError          a newer execution has taken over this transactional.id
    ├── CommitError          a lane's transaction could not be committed, or its end is unknown
    ├── ConsumeError         Kafka can no longer deliver the input from where we are
    ├── FetchStalledError    the client delivers nothing of what Kafka has for it
    └── DamagedFileError     a file of remembered ids is damaged; the lane log is read instead

A payment gateway is no source of faults: without an answer a payment waits, or the flow holds.

The consequence decides the class: `StartRefusedError` is printed as it is, without a traceback,
because its message already has what is wrong and what to do.
"""


class Fault(Exception):  # noqa: N818  (the tree's root: its leaves carry the suffix)
    """The end of the process with a non-zero exit code; nothing uncommitted is ever visible."""


class StartRefusedError(Fault):
    """The flow will not start: the message has the reason, and what to do about it."""


class SettingsError(StartRefusedError):
    """Environment variables are wrong or missing; `problems` has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class FencedError(Fault):
    """Another execution has initialised this lane's `transactional.id`; ours is over."""


class CommitError(Fault):
    """A transaction failed or its outcome is unknown; committed offsets decide at restart."""


class ConsumeError(Fault):
    """The input cannot be read on: an expired offset, a deleted topic, a fatal client error."""


class FetchStalledError(Fault):
    """The Kafka client has stopped fetching a partition, without an error; a new one reads on."""


class DamagedFileError(Fault):
    """A file of remembered ids is not as it was written; a restart reads the lane log instead."""
