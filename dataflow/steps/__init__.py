"""The thin steps of the flow: they call the core and the gateway, and keep no rules of their own.

They take and give whole batches. There are no timers: one that is due at a restart can fire before
the state it acts on is restored.
"""
