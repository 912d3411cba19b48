"""An archive of Kafka's classes, parsed and verified: with it a JVM starts with half the work.

It is made once, by a broker that writes it as it ends. A JVM goes on without an archive that does
not fit it, so nothing but time depends on this.
"""

import fcntl

from tests.support.kafka import distribution
from tests.support.kafka.broker import Broker, BrokerError


def make(*, wait: bool) -> None:
    """Make the archive, if it is not there.

    Args:
        wait: Wait for another process that is making it; otherwise leave it to that one.
    """
    archive = distribution.archive()
    if archive.exists():
        return
    with archive.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if archive.exists():
            return
        # Renamed only when it is complete: a JVM may look for it at any time.
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        writes = ("-Xmx512m", f"-XX:ArchiveClassesAtExit={partial}")
        try:
            with Broker.start(java_options=writes) as broker:
                broker.create_topics({"any": 1})
                broker.stop()
        except BrokerError:
            return  # the test that needs a broker reports why there is none
        if partial.exists():
            partial.rename(archive)
