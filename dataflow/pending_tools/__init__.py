"""`payments pending` and `payments resolve`: the payments that wait for the gateway."""
