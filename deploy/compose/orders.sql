-- The role that the daemon repairs with: it may see and end other sessions, and owns nothing.
\set password `cat /run/remediator-secrets/ORDERS_PASSWORD`
CREATE ROLE remediator LOGIN PASSWORD :'password' CONNECTION LIMIT 5;
GRANT pg_read_all_stats, pg_signal_backend TO remediator;
