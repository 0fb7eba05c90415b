package cql

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gocql/gocql"
)

// migrations bring a keyspace from version i to i+1. What was released is never
// changed, only added to: the checksum of each one is kept.
//
// {ks} and {lwt} are the keyspaces; {wide}, {small} and {expiring} the compaction
// of the backend at hand. Objects are kept as the JSON the API shows, beside the
// columns they are looked up by.
var migrations = []string{
	`CREATE TABLE IF NOT EXISTS {ks}.users (id bigint PRIMARY KEY, username text, hash text, created bigint, data text) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.user_list (shard int, id bigint, PRIMARY KEY ((shard), id)) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.tokens (hash blob PRIMARY KEY, user_id bigint, created bigint) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.user_tokens (user_id bigint, hash blob, PRIMARY KEY ((user_id), hash)) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.guild_parts (guild_id bigint, kind tinyint, id bigint, code text, channel_id bigint, data text,
		PRIMARY KEY ((guild_id), kind, id, code)) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.guild_list (shard int, id bigint, PRIMARY KEY ((shard), id)) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.user_guilds (user_id bigint, guild_id bigint, PRIMARY KEY ((user_id), guild_id)) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.channel_guilds (channel_id bigint PRIMARY KEY, guild_id bigint) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.webhook_guilds (id bigint PRIMARY KEY, guild_id bigint) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.messages (channel_id bigint, bucket int, id bigint, author_id bigint, nonce text, data text,
		PRIMARY KEY ((channel_id, bucket), id)) WITH CLUSTERING ORDER BY (id DESC) AND gc_grace_seconds = 172800 AND {wide};
	CREATE TABLE IF NOT EXISTS {ks}.channel_buckets (channel_id bigint, bucket int, PRIMARY KEY ((channel_id), bucket))
		WITH CLUSTERING ORDER BY (bucket DESC) AND {small};
	CREATE TABLE IF NOT EXISTS {ks}.reactions (channel_id bigint, bucket int, message_id bigint, emoji text, user_id bigint, at bigint,
		PRIMARY KEY ((channel_id, bucket), message_id, emoji, user_id)) WITH gc_grace_seconds = 172800 AND {wide};
	CREATE TABLE IF NOT EXISTS {ks}.pins (channel_id bigint, message_id bigint, at bigint, PRIMARY KEY ((channel_id), message_id)) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.dms (id bigint PRIMARY KEY, low bigint, high bigint) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.user_dms (user_id bigint, channel_id bigint, PRIMARY KEY ((user_id), channel_id)) WITH {small};
	CREATE TABLE IF NOT EXISTS {ks}.dropped_channels (shard int, channel_id bigint, PRIMARY KEY ((shard), channel_id)) WITH {small};
	CREATE TABLE IF NOT EXISTS {lwt}.names (name text PRIMARY KEY, user_id bigint, claimed bigint) WITH {small};
	CREATE TABLE IF NOT EXISTS {lwt}.invites (code text PRIMARY KEY, guild_id bigint, uses int) WITH {small};
	CREATE TABLE IF NOT EXISTS {lwt}.settings (name text PRIMARY KEY, value text) WITH {small};
	CREATE TABLE IF NOT EXISTS {lwt}.dm_pairs (low bigint, high bigint, channel_id bigint, PRIMARY KEY ((low, high))) WITH {small};
	CREATE TABLE IF NOT EXISTS {lwt}.nonces (channel_id bigint, author_id bigint, nonce text, message_id bigint, created bigint,
		PRIMARY KEY ((channel_id, author_id, nonce))) WITH default_time_to_live = 900 AND gc_grace_seconds = 3600 AND {expiring};`,
}

const (
	// leaseLife is how long a migrating process that died keeps others waiting; the
	// lease is renewed before each statement.
	leaseLife = 60 // seconds
	leaseLook = 500 * time.Millisecond
	// ddlTimeout is how long one change of the schema may take.
	ddlTimeout = 30 * time.Second
)

// backend is what the cluster is.
type backend struct {
	dc     string
	nodes  int // of the data centre
	scylla bool
	// unified says that Cassandra has the unified compaction (5.0 and later).
	unified bool
}

func inspect(ctx context.Context, s *gocql.Session, dc string) (backend, error) {
	var b backend
	var version string
	if err := s.Query("SELECT data_center, release_version FROM system.local WHERE key = 'local'").WithContext(ctx).Scan(&b.dc, &version); err != nil {
		return b, fmt.Errorf("ask the cluster what it is: %w", err)
	}
	if dc != "" {
		b.dc = dc
	}
	for _, h := range s.GetHosts() {
		if h.DataCenter() == b.dc {
			b.nodes++
		}
	}
	if b.nodes == 0 {
		return b, fmt.Errorf("there is no node in data centre %q", b.dc)
	}
	var table string
	err := s.Query("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system' AND table_name = 'scylla_local'").WithContext(ctx).Scan(&table)
	if err != nil && !errors.Is(err, gocql.ErrNotFound) {
		return b, fmt.Errorf("ask the cluster what it is: %w", err)
	}
	b.scylla = err == nil
	b.unified = !b.scylla && !strings.HasPrefix(version, "3.") && !strings.HasPrefix(version, "4.")
	return b, nil
}

// fill puts keyspaces and compactions into a statement.
func (b backend) fill(stmt, keyspace string) string {
	wide := "{'class': 'SizeTieredCompactionStrategy'}"
	switch {
	case b.scylla:
		wide = "{'class': 'IncrementalCompactionStrategy'}"
	case b.unified:
		wide = "{'class': 'UnifiedCompactionStrategy'}"
	}
	return strings.NewReplacer(
		"{ks}", keyspace, "{lwt}", keyspace+lwtSuffix,
		"{wide}", "compaction = "+wide,
		"{small}", "compaction = {'class': 'LeveledCompactionStrategy'}",
		"{expiring}", "compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'MINUTES', 'compaction_window_size': '10'}",
	).Replace(stmt)
}

// migrator runs migrations over a session of its own.
type migrator struct {
	session  *gocql.Session
	backend  backend
	keyspace string
	holder   string
}

func (m *migrator) ddl(ctx context.Context, stmt string) error {
	stmt = m.backend.fill(stmt, m.keyspace)
	err := m.session.Query(stmt).WithContext(ctx).SetRequestTimeout(ddlTimeout).Exec()
	if err == nil {
		err = m.session.AwaitSchemaAgreement(ctx)
	}
	if err != nil {
		return fmt.Errorf("%.60s: %w", stmt, err)
	}
	return nil
}

// found says whether a statement gives a row.
func (m *migrator) found(ctx context.Context, stmt string, args ...any) (bool, error) {
	iter := m.session.Query(stmt, args...).WithContext(ctx).Iter()
	n := iter.NumRows()
	return n > 0, iter.Close()
}

// begin makes the keyspaces and the two tables that migrations need themselves.
// Two processes must not do this at once on Cassandra; one that finds them there
// does nothing.
func (m *migrator) begin(ctx context.Context, replicas int) error {
	for _, ks := range []string{m.keyspace, m.keyspace + lwtSuffix} {
		there, err := m.found(ctx, "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", ks)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		stmt := fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS %s WITH replication = {'class': 'NetworkTopologyStrategy', '%s': %d}", ks, m.backend.dc, replicas)
		if m.backend.scylla && strings.HasSuffix(ks, lwtSuffix) {
			stmt += " AND tablets = {'enabled': false}"
		}
		if err := m.ddl(ctx, stmt); err != nil {
			return err
		}
	}
	for _, table := range []string{
		"{lwt}.leases (name text PRIMARY KEY, holder text)",
		"{ks}.schema_migrations (version int PRIMARY KEY, checksum text, applied timestamp)",
	} {
		name := m.backend.fill(strings.Fields(table)[0], m.keyspace)
		ks, name, _ := strings.Cut(name, ".")
		there, err := m.found(ctx, "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?", ks, name)
		if err == nil && !there {
			err = m.ddl(ctx, "CREATE TABLE IF NOT EXISTS "+table+" WITH {small}")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replicas is in how many nodes of the data centre a row lies, where it is fewest.
func (m *migrator) replicas(ctx context.Context) (int, error) {
	fewest := 0
	for _, ks := range []string{m.keyspace, m.keyspace + lwtSuffix} {
		var replication map[string]string
		if err := m.session.Query("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?", ks).WithContext(ctx).Scan(&replication); err != nil {
			return 0, fmt.Errorf("read where rows of %s lie: %w", ks, err)
		}
		n, err := strconv.Atoi(cmp.Or(replication[m.backend.dc], replication["replication_factor"]))
		if err != nil {
			return 0, fmt.Errorf("keyspace %s has no replicas in data centre %s: give it some by ALTER KEYSPACE", ks, m.backend.dc)
		}
		if fewest == 0 || n < fewest {
			fewest = n
		}
	}
	return fewest, nil
}

// applied reads which migrations were done, by version.
func (m *migrator) applied(ctx context.Context) (map[int]string, error) {
	done := make(map[int]string)
	iter := m.session.Query(m.backend.fill("SELECT version, checksum FROM {ks}.schema_migrations", m.keyspace)).WithContext(ctx).Consistency(gocql.LocalQuorum).Iter()
	var version int
	var sum string
	for iter.Scan(&version, &sum) {
		done[version] = sum
	}
	return done, iter.Close()
}

func checksum(migration string) string {
	sum := sha256.Sum256([]byte(migration))
	return hex.EncodeToString(sum[:8])
}

// pending says how many migrations were done, and refuses a schema that is not
// of this program.
func pending(done map[int]string) (int, error) {
	n := 0
	for version, sum := range done {
		switch {
		case version > len(migrations):
			return 0, fmt.Errorf("the data was written by a newer version (schema %d, this program knows %d)", version, len(migrations))
		case version < 1 || sum != checksum(migrations[version-1]):
			return 0, fmt.Errorf("schema %d in the keyspace is not that of this program (checksum %s); use another keyspace", version, sum)
		}
		n = max(n, version)
	}
	return n, nil
}

// run brings the keyspace to the newest schema.
func (m *migrator) run(ctx context.Context, replicas int) (err error) {
	if err := m.begin(ctx, replicas); err != nil {
		return err
	}
	done, err := m.applied(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	version, err := pending(done)
	if err != nil || version == len(migrations) {
		return err
	}
	if err := m.take(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.release(ctx)) }()
	// Another process may have done it meanwhile.
	if done, err = m.applied(ctx); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version, err = pending(done); err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		if err := m.migrate(ctx, version); err != nil {
			return fmt.Errorf("migrate to schema %d: %w", version+1, err)
		}
	}
	return nil
}

func (m *migrator) migrate(ctx context.Context, version int) error {
	statements := strings.Split(migrations[version], ";")
	statements = slices.DeleteFunc(statements, func(s string) bool { return strings.TrimSpace(s) == "" })
	for _, stmt := range statements {
		if held, err := m.renew(ctx); err != nil || !held {
			return errors.Join(errors.New("the lease was lost"), err)
		}
		if err := m.ddl(ctx, strings.TrimSpace(stmt)); err != nil {
			return err
		}
	}
	return m.session.Query(m.backend.fill("INSERT INTO {ks}.schema_migrations (version, checksum, applied) VALUES (?, ?, ?)", m.keyspace),
		version+1, checksum(migrations[version]), time.Now()).WithContext(ctx).Consistency(gocql.LocalQuorum).Exec()
}

func (m *migrator) cas(ctx context.Context, stmt string, args ...any) (bool, map[string]any, error) {
	row := make(map[string]any)
	applied, err := m.session.Query(m.backend.fill(stmt, m.keyspace), args...).WithContext(ctx).
		Consistency(gocql.LocalQuorum).SerialConsistency(gocql.LocalSerial).SetRequestTimeout(ddlTimeout).MapScanCAS(row)
	return applied, row, err
}

// take waits for the lease.
func (m *migrator) take(ctx context.Context) error {
	m.holder = rand.Text()
	look := time.NewTicker(leaseLook)
	defer look.Stop()
	for {
		got, row, err := m.cas(ctx, fmt.Sprintf("INSERT INTO {lwt}.leases (name, holder) VALUES ('migrate', ?) IF NOT EXISTS USING TTL %d", leaseLife), m.holder)
		if err != nil {
			return fmt.Errorf("take the lease of migrations: %w", err)
		}
		if got || row["holder"] == m.holder {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("another process has been migrating the keyspace for too long; try again in %d s: %w", leaseLife, ctx.Err())
		}
	}
}

func (m *migrator) renew(ctx context.Context) (bool, error) {
	held, _, err := m.cas(ctx, fmt.Sprintf("UPDATE {lwt}.leases USING TTL %d SET holder = ? WHERE name = 'migrate' IF holder = ?", leaseLife), m.holder, m.holder)
	return held, err
}

func (m *migrator) release(ctx context.Context) error {
	_, _, err := m.cas(ctx, "DELETE FROM {lwt}.leases WHERE name = 'migrate' IF holder = ?", m.holder)
	if err != nil {
		return fmt.Errorf("release the lease of migrations: %w", err)
	}
	return nil
}
