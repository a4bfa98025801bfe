-- The role that the daemon repairs with: it may see and end other sessions, and owns nothing.
\set password `cat /run/remediator-secrets/ORDERS_PASSWORD`
CREATE ROLE remediator LOGIN PASSWORD :'password' CONNECTION LIMIT 5;
GRANT pg_read_all_stats, pg_signal_backend TO remediator;

-- The role that measures for Prometheus.
\set password `cat /run/remediator-secrets/WATCHER_PASSWORD`
CREATE ROLE watcher LOGIN PASSWORD :'password' CONNECTION LIMIT 3;
GRANT pg_monitor TO watcher;

-- An application, for trying out. Without a password: it logs in inside the container only.
CREATE ROLE app LOGIN;
