SELECT audit.payment_id, audit.event_type, outcome.decided_at
FROM audit LEFT JOIN outcome USING (event_id)
