"""A payment provider that misbehaves on demand: for tests, the demo, the campaign and the bench.

It is a real HTTP server in a process of its own, and imports nothing of the rest: what it accepts
and how it fails is stated here a second time, so that an error in a gateway is not repeated.

    book.py         what is charged and which keys are in use: SQLite, which outlives SIGKILL
    behaviour.py    what decides about a payment, and the faults before and after it
    provider.py     a request on its way: faults, credentials, limits, key, execution, answer
    stripe_api.py   its address in the shape of Stripe's PaymentIntents
    contract_api.py its address in the shape of docs/gateway-api.yaml
    server.py       both shapes on one port, and its controls on another
    process.py      the process, for those who start one
"""
