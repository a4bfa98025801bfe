-- Compiled from schema.py; do not edit.
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE alert (
	id INTEGER NOT NULL,
	sender TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	starts_at BIGINT NOT NULL,
	sent_starts_at BIGINT,
	status TEXT NOT NULL,
	digest BIGINT NOT NULL,
	received_at BIGINT NOT NULL,
	resolved_at BIGINT,
	event BIGINT NOT NULL,
	last_event BIGINT NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX alert_ended ON alert (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE UNIQUE INDEX alert_identity ON alert (starts_at, fingerprint, sender);
CREATE TABLE alert_event (
	id INTEGER NOT NULL,
	at BIGINT NOT NULL,
	sender TEXT NOT NULL,
	kind TEXT NOT NULL,
	revision TEXT NOT NULL,
	truncated INTEGER NOT NULL,
	test SMALLINT DEFAULT 0 NOT NULL,
	changes TEXT NOT NULL,
	body BLOB NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX alert_event_at ON alert_event (at);
CREATE TABLE approval (
	id INTEGER NOT NULL,
	run BIGINT NOT NULL,
	"plan" TEXT NOT NULL,
	role TEXT NOT NULL,
	asked_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	decision TEXT,
	actor TEXT,
	comment TEXT,
	decided_at BIGINT,
	data TEXT DEFAULT '{}' NOT NULL,
	PRIMARY KEY (id)
);
CREATE UNIQUE INDEX approval_open ON approval (run) WHERE decision IS NULL;
CREATE INDEX approval_run ON approval (run);
CREATE TABLE audit_event (
	id INTEGER NOT NULL,
	at BIGINT NOT NULL,
	kind TEXT NOT NULL,
	alert BIGINT,
	run BIGINT,
	policy TEXT,
	target TEXT,
	body BLOB NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX audit_event_alert ON audit_event (alert) WHERE alert IS NOT NULL;
CREATE INDEX audit_event_at ON audit_event (at);
CREATE INDEX audit_event_run ON audit_event (run) WHERE run IS NOT NULL;
CREATE TABLE audit_seal (
	id INTEGER NOT NULL,
	first BIGINT NOT NULL,
	count INTEGER NOT NULL,
	at BIGINT NOT NULL,
	algorithm TEXT NOT NULL,
	upto BIGINT NOT NULL,
	items BLOB NOT NULL,
	previous TEXT NOT NULL,
	hash TEXT NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (previous)
);
CREATE TABLE control (
	kind TEXT NOT NULL,
	scope TEXT NOT NULL,
	reason TEXT NOT NULL,
	actor TEXT NOT NULL,
	since BIGINT NOT NULL,
	until BIGINT,
	data TEXT NOT NULL,
	PRIMARY KEY (kind, scope)
);
CREATE TABLE effect (
	id INTEGER NOT NULL,
	run BIGINT NOT NULL,
	policy TEXT NOT NULL,
	target TEXT NOT NULL,
	target_key TEXT NOT NULL,
	field TEXT NOT NULL,
	prior TEXT NOT NULL,
	current TEXT NOT NULL,
	"plan" TEXT NOT NULL,
	expires_at BIGINT NOT NULL,
	extended SMALLINT DEFAULT 0 NOT NULL,
	returned_at BIGINT,
	outcome TEXT NOT NULL,
	return_run BIGINT,
	lent_at BIGINT,
	renewed_at BIGINT,
	renewed_by TEXT DEFAULT '' NOT NULL,
	renewals INTEGER DEFAULT 0 NOT NULL,
	recalled_by TEXT DEFAULT '' NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX effect_due ON effect (expires_at) WHERE returned_at IS NULL AND return_run IS NULL;
CREATE UNIQUE INDEX effect_open ON effect (target_key, field) WHERE returned_at IS NULL;
CREATE TABLE episode_count (
	sender TEXT NOT NULL,
	at BIGINT NOT NULL,
	count INTEGER NOT NULL,
	PRIMARY KEY (sender, at)
);
CREATE TABLE incident (
	id INTEGER NOT NULL,
	target_key TEXT NOT NULL,
	severity TEXT NOT NULL,
	data TEXT NOT NULL,
	opened_at BIGINT NOT NULL,
	acknowledged_at BIGINT,
	resolved_at BIGINT,
	target TEXT DEFAULT '' NOT NULL,
	updated_at BIGINT DEFAULT 0 NOT NULL,
	next_at BIGINT,
	acknowledged_by TEXT,
	PRIMARY KEY (id)
);
CREATE INDEX incident_due ON incident (next_at) WHERE resolved_at IS NULL;
CREATE UNIQUE INDEX incident_open ON incident (target_key) WHERE resolved_at IS NULL;
CREATE INDEX incident_target ON incident (target_key);
CREATE TABLE incident_run (
	incident BIGINT NOT NULL,
	run BIGINT NOT NULL,
	attached_at BIGINT NOT NULL,
	PRIMARY KEY (incident, run)
);
CREATE INDEX incident_run_run ON incident_run (run);
CREATE TABLE intent (
	id INTEGER NOT NULL,
	run BIGINT NOT NULL,
	number INTEGER NOT NULL,
	kind TEXT NOT NULL,
	policy TEXT NOT NULL,
	target_key TEXT NOT NULL,
	"plan" TEXT NOT NULL,
	token TEXT NOT NULL,
	nonce TEXT NOT NULL,
	rung INTEGER NOT NULL,
	step INTEGER NOT NULL,
	created_at BIGINT NOT NULL,
	counted SMALLINT DEFAULT 0 NOT NULL,
	outcome TEXT NOT NULL,
	outcome_at BIGINT,
	evidence TEXT NOT NULL,
	target TEXT DEFAULT '' NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT intent_once UNIQUE (run, number)
);
CREATE INDEX intent_global ON intent (created_at);
CREATE INDEX intent_policy ON intent (policy, created_at);
CREATE INDEX intent_target ON intent (target_key, created_at);
CREATE TABLE meta (
	"key" TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY ("key")
);
CREATE TABLE notifier (
	name TEXT NOT NULL,
	failing_since BIGINT,
	retry_at BIGINT,
	told_at BIGINT,
	error TEXT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE outbox (
	id INTEGER NOT NULL,
	at BIGINT NOT NULL,
	next_at BIGINT NOT NULL,
	attempts INTEGER NOT NULL,
	message TEXT NOT NULL,
	error TEXT NOT NULL,
	sent_at BIGINT,
	incident BIGINT,
	notifier TEXT,
	posted BIGINT,
	refused INTEGER DEFAULT 0 NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX outbox_due ON outbox (next_at) WHERE sent_at IS NULL;
CREATE INDEX outbox_incident ON outbox (incident) WHERE sent_at IS NULL;
CREATE TABLE policy_revision (
	hash TEXT NOT NULL,
	files TEXT NOT NULL,
	git TEXT NOT NULL,
	loaded_at BIGINT NOT NULL,
	PRIMARY KEY (hash)
);
CREATE TABLE rejected (
	id INTEGER NOT NULL,
	at BIGINT NOT NULL,
	sender TEXT NOT NULL,
	status INTEGER NOT NULL,
	field TEXT NOT NULL,
	message TEXT NOT NULL,
	body BLOB NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE run (
	id INTEGER NOT NULL,
	policy TEXT NOT NULL,
	policy_revision TEXT NOT NULL,
	alert BIGINT NOT NULL,
	target TEXT,
	target_key TEXT,
	mode TEXT NOT NULL,
	origin TEXT NOT NULL,
	state TEXT NOT NULL,
	outcome TEXT,
	reason TEXT,
	observed TEXT NOT NULL,
	allowed TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	next_at BIGINT,
	epoch BIGINT NOT NULL,
	progress TEXT NOT NULL,
	worker TEXT,
	lease_until BIGINT,
	woken SMALLINT DEFAULT 0 NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX run_begun ON run (next_at) WHERE outcome IS NULL AND state NOT IN ('HOLD', 'GUARD', 'APPROVAL');
CREATE INDEX run_due ON run (next_at) WHERE outcome IS NULL;
CREATE INDEX run_ended ON run (updated_at);
CREATE INDEX run_judged ON run (policy, updated_at) WHERE outcome IN ('succeeded', 'reverted', 'escalated');
CREATE INDEX run_observed ON run (policy, updated_at) WHERE outcome = 'observed';
CREATE UNIQUE INDEX run_once ON run (policy, alert) WHERE origin <> 'lease';
CREATE INDEX run_policy ON run (policy, id);
CREATE UNIQUE INDEX run_target ON run (policy, target) WHERE outcome IS NULL AND origin <> 'lease';
CREATE TABLE run_alert (
	run BIGINT NOT NULL,
	alert BIGINT NOT NULL,
	attached_at BIGINT NOT NULL,
	PRIMARY KEY (run, alert)
);
CREATE INDEX run_alert_alert ON run_alert (alert);
CREATE TABLE started (
	alert BIGINT NOT NULL,
	"key" TEXT,
	at BIGINT NOT NULL,
	ended_at BIGINT,
	PRIMARY KEY (alert)
);
CREATE UNIQUE INDEX started_key ON started ("key");
CREATE INDEX started_open ON started (alert) WHERE ended_at IS NULL;
CREATE TABLE target_lock (
	target_key TEXT NOT NULL,
	target TEXT NOT NULL,
	run BIGINT NOT NULL,
	policy TEXT NOT NULL,
	taken_at BIGINT NOT NULL,
	PRIMARY KEY (target_key)
);
CREATE INDEX target_lock_run ON target_lock (run);
INSERT INTO alembic_version (version_num) VALUES ('0002');
INSERT INTO meta (key, value) VALUES ('oldest_code', '0001');
