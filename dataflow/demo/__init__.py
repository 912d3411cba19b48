"""A look at the flow at work: `python -m dataflow demo`, no Kafka needed.

What runs is the real `python -m bytewax.run dataflow.flow`, as a process of its own. Around it: a
broker (embedded, or the one of KAFKA_BROKERS), made-up requests, and a reader of the audit topic
that checks, while it shows them, that every request gets exactly one audit event.

    traffic        which requests are made up, and what must become of each (pure, by seed)
    accounts       what was sent against what was audited, record by record (pure)
    broker         the embedded broker or the real one, and the topics
    clients        the threads that send requests and read audit events
    flow_process   the flow's process: its environment, its log, its end
    snapshot       what there is to see at one moment
    text_view      ... as lines, for pipes and logs
    terminal_view  ... on a terminal
    stop           when it is asked to stop
    session        start, send, stop sending, drain, stop the flow
    command        from the arguments to the exit code
"""
