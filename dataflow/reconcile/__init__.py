"""`payments reconcile`: the provider's list of payments against what was published."""
