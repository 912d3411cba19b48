"""`payments pending`: the payments that wait for the gateway."""
