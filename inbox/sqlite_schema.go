package inbox

// sqliteVersion is the version of a directory that this code reads and writes. Since
// 2, bodies share files: who does not know of that would take them for nobody's.
const sqliteVersion = 2

// schema makes an empty store. All times are milliseconds since 1970.
//
// Each table ends with sum, the check sum of its row. The tables without it can
// be made again (refs) or are authenticated (body).
var schema = []string{
	`CREATE TABLE meta (
		id INTEGER PRIMARY KEY,
		key TEXT NOT NULL UNIQUE,
		value BLOB NOT NULL,
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('meta', id, key, value)) STORED
	) STRICT`,

	// What is known of a report, without anything personal. It outlives the body.
	`CREATE TABLE reports (
		id INTEGER PRIMARY KEY,
		uid TEXT NOT NULL UNIQUE,
		kind TEXT NOT NULL,
		type TEXT NOT NULL, -- the subjects, as JSON
		report_id TEXT NOT NULL,
		digest BLOB NOT NULL,
		size INTEGER NOT NULL, -- of the body as it came
		received INTEGER NOT NULL,
		code INTEGER NOT NULL,
		refs TEXT NOT NULL, -- as JSON; the table refs is made from it
		repeat INTEGER NOT NULL,
		conflict INTEGER NOT NULL,
		state TEXT NOT NULL, -- waiting, delivered, dead, dropped, erased, damaged
		ended INTEGER, -- null while it waits
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('reports', id, uid, kind, type, report_id, digest, size, received, code,
			refs, repeat, conflict, state, ended)) STORED
	) STRICT`,
	`CREATE INDEX reports_id ON reports (report_id)`,
	`CREATE INDEX reports_state ON reports (state, ended)`,

	// What is personal. The row goes when the report ends.
	`CREATE TABLE bodies (
		report INTEGER PRIMARY KEY,
		key BLOB NOT NULL, -- wrapped
		head BLOB NOT NULL, -- sealed
		file TEXT, -- in bodies/, for those that are not in the row
		stored INTEGER NOT NULL, -- the bytes that it takes up
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('bodies', report, key, head, file, stored)) STORED,
		body BLOB -- sealed
	) STRICT`,

	// By what a report can be found: request, link, consent, event.
	`CREATE TABLE refs (
		kind TEXT NOT NULL,
		value TEXT NOT NULL,
		report INTEGER NOT NULL,
		PRIMARY KEY (kind, value, report)
	) STRICT, WITHOUT ROWID`,

	// One for each subject of a report.
	`CREATE TABLE deliveries (
		id INTEGER PRIMARY KEY,
		report INTEGER NOT NULL,
		kind TEXT NOT NULL,
		subject TEXT NOT NULL,
		state TEXT NOT NULL, -- waiting, delivered, dead, dropped
		attempts INTEGER NOT NULL,
		failures INTEGER NOT NULL DEFAULT 0, -- since it began to wait
		retried INTEGER NOT NULL DEFAULT 0, -- it failed, and goes behind those that did not
		due INTEGER NOT NULL,
		since INTEGER NOT NULL, -- when it began to wait
		claimed_by TEXT,
		claimed_until INTEGER,
		route TEXT, -- of the last attempt, like status and reason
		status INTEGER,
		reason TEXT,
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('deliveries', id, report, kind, subject, state, attempts, failures, retried, due, since,
			claimed_by, claimed_until, route, status, reason)) STORED
	) STRICT`,
	`CREATE INDEX deliveries_report ON deliveries (report)`,
	`CREATE INDEX deliveries_due ON deliveries (kind, subject, retried, due) WHERE state = 'waiting'`,
	`CREATE INDEX deliveries_dead ON deliveries (route) WHERE state = 'dead'`,

	`CREATE TABLE attempts (
		id INTEGER PRIMARY KEY,
		delivery INTEGER NOT NULL,
		report INTEGER NOT NULL,
		node TEXT NOT NULL,
		route TEXT NOT NULL,
		at INTEGER NOT NULL,
		took INTEGER NOT NULL, -- milliseconds
		status INTEGER NOT NULL,
		reason TEXT NOT NULL,
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('attempts', id, delivery, report, node, route, at, took, status, reason)) STORED
	) STRICT`,
	`CREATE INDEX attempts_report ON attempts (report)`,

	// Bodies whose signature no key has made yet.
	`CREATE TABLE quarantine (
		id INTEGER PRIMARY KEY,
		uid TEXT NOT NULL UNIQUE,
		received INTEGER NOT NULL,
		signature BLOB NOT NULL,
		key BLOB NOT NULL,
		head BLOB NOT NULL,
		file TEXT,
		size INTEGER NOT NULL,
		stored INTEGER NOT NULL,
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('quarantine', id, uid, received, signature, key, head, file, size, stored)) STORED,
		body BLOB
	) STRICT`,

	`CREATE TABLE erased (
		id INTEGER PRIMARY KEY,
		kind TEXT NOT NULL, -- consent, link, report
		value TEXT NOT NULL,
		at INTEGER NOT NULL,
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('erased', id, kind, value, at)) STORED
	) STRICT`,
	`CREATE UNIQUE INDEX erased_what ON erased (kind, value)`,

	// Routes that a person has paused, and those that were resumed again.
	`CREATE TABLE pauses (
		id INTEGER PRIMARY KEY,
		route TEXT NOT NULL UNIQUE,
		at INTEGER NOT NULL,
		by TEXT NOT NULL,
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('pauses', id, route, at, by)) STORED
	) STRICT`,

	// What people did.
	`CREATE TABLE audit (
		id INTEGER PRIMARY KEY,
		at INTEGER NOT NULL,
		who TEXT NOT NULL,
		what TEXT NOT NULL,
		uid TEXT NOT NULL,
		why TEXT NOT NULL,
		sum INTEGER NOT NULL GENERATED ALWAYS AS (rowsum('audit', id, at, who, what, uid, why)) STORED
	) STRICT`,
	`CREATE INDEX audit_uid ON audit (uid)`,
	`CREATE INDEX audit_at ON audit (at)`,
}
