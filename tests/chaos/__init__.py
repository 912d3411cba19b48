"""A campaign that tries to lose, double or tear a payment: `python -m tests.chaos` (`make chaos`).

The real flow, as its users run it, on a real Kafka, under load all the time. A *scene* is one flow
with topics of its own; faults of the *catalogue* strike it one after the other, each with an end
that is expected and checked; then everything in the topics is checked. `campaign` runs scenes side
by side, and `report` shows what was hit.
"""
