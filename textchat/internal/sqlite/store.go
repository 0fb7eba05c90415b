package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/prometheus/client_golang/prometheus"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"voicefleet/textchat"
)

const (
	// writeQueue bounds the writes that wait; beyond it a write is refused with
	// ErrBusy. At 15,000 writes/s it is a wait of 70 ms.
	writeQueue = 1024
	// groupMax bounds one transaction, and so how long its first writer waits.
	groupMax = 256
	// readers run at once; each costs a connection with a page cache of 2 MiB.
	readers = 4
	// writerCache is the writer's, in KiB: a page that is split takes its neighbours along,
	// and to read those again from the log is a fifth of the writer's time with 2 MiB.
	writerCache = 16 << 10
	// defaultPatience is how long a write may take: a disk that is slow answers with
	// an error within 1 s.
	defaultPatience = 800 * time.Millisecond
)

// Config of a Store; the zero value works.
type Config struct {
	// Metrics takes the collectors; nil keeps them private.
	Metrics prometheus.Registerer
	// Patience bounds how long a write waits for the disk (default 800 ms).
	Patience time.Duration
}

// Store is one database file.
type Store struct {
	// Immutable.
	read      *sql.DB
	write     *sql.DB
	log       *sql.DB   // of the bringer
	tokenUser *sql.Stmt // of read
	patience  time.Duration
	metrics   *metrics
	jobs      chan *job
	done      chan struct{} // closed when the writer has ended
	bring     chan struct{} // asks for the log to be brought
	brought   chan struct{} // closed when that is over
	tx        *txn          // owned by the writer
	once      sync.Once

	// begun is when the group under way was begun, in nanoseconds since epoch; zero
	// while there is none. The writer sets it.
	begun atomic.Int64
	epoch time.Time
	// rest says that the log was brought but for what came meanwhile.
	rest atomic.Bool

	mu sync.RWMutex
	// Guarded by mu: jobs is open. A writer holds it shared while it enqueues.
	open bool
}

var _ textchat.Store = (*Store)(nil)

type job struct {
	do   func(*txn) error
	done chan error
	// claimed is set by the writer, which then does it, or by who waits, which then
	// has withdrawn it: whoever is first.
	claimed atomic.Bool
}

// Open opens or makes the database in dir.
func Open(dir string, c Config) (_ *Store, err error) {
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	var opened []io.Closer
	defer func() {
		if err != nil {
			for _, o := range slices.Backward(opened) {
				_ = o.Close()
			}
			err = fmt.Errorf("open store: %w", err)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, File)
	use := func(most int, extra string) (*sql.DB, error) {
		db, err := openFile(file, extra)
		if err == nil {
			opened = append(opened, db)
			db.SetMaxOpenConns(most)
			db.SetMaxIdleConns(most)
		}
		return db, err
	}
	write, err := use(1, fmt.Sprintf("&_pragma=cache_size(-%d)&_pragma=wal_autocheckpoint(%d)", writerCache, logPages))
	if err != nil {
		return nil, err
	}
	if err := migrate(write); err != nil {
		return nil, explained(err)
	}
	log, err := use(1, "")
	if err != nil {
		return nil, err
	}
	read, err := use(readers, "&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	conn, err := write.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	opened = append(opened, conn)
	// To prepare a statement takes longer than to run it, and this one is run for every
	// request.
	tokenUser, err := read.Prepare("SELECT u.data FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.hash = ?")
	if err != nil {
		return nil, err
	}
	opened = append(opened, tokenUser)
	s := &Store{read: read, write: write, log: log, tokenUser: tokenUser, patience: c.Patience, jobs: make(chan *job, writeQueue), done: make(chan struct{}),
		bring: make(chan struct{}, 1), brought: make(chan struct{}), tx: &txn{conn: conn, kept: make(map[string]*sql.Stmt)}, epoch: time.Now(), open: true}
	if s.metrics, err = newMetrics(c.Metrics, s); err != nil {
		return nil, err
	}
	go s.writer()
	go s.bringer()
	return s, nil
}

// lockedOut says that another process had the index when it was mapped last.
var lockedOut atomic.Bool

// explained says of an error what it means to whoever starts the program.
func explained(err error) error {
	e := (*driver.Error)(nil)
	if errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_PROTOCOL || e.Code() == sqlite3.SQLITE_IOERR_SHMMAP && lockedOut.Load()) {
		return fmt.Errorf("another process has it open: %w", err)
	}
	return err
}

// Close writes what waits, brings the log into the file and closes it.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		s.mu.Lock()
		s.open = false
		close(s.jobs)
		s.mu.Unlock()
		<-s.done
		close(s.bring)
		<-s.brought
		ferr := s.tx.forget()
		_, cerr := s.tx.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
		err = errors.Join(ferr, cerr, s.tx.conn.Close(), s.tokenUser.Close(), s.read.Close(), s.log.Close(), s.write.Close())
	})
	return err
}

// change runs do in the next group and returns when it is durable. do may run
// only statements on its connection, and may be run twice: what it keeps outside
// must be set, not added to.
//
// A disk that stands still is not waited for: a write that was not begun in time is
// withdrawn (ErrBusy), of one that was begun nobody knows yet (ErrUnsure), and while
// the group under way is late nothing is taken (ErrBusy).
func (s *Store) change(ctx context.Context, verb string, do func(*txn) error) error {
	return s.changeBy(ctx, verb, do, false)
}

// changeSurely is change for who must know whether it was done: once begun it is
// waited for, however long that takes.
func (s *Store) changeSurely(ctx context.Context, verb string, do func(*txn) error) error {
	return s.changeBy(ctx, verb, do, true)
}

func (s *Store) changeBy(ctx context.Context, verb string, do func(*txn) error, surely bool) error {
	if s.late() {
		return s.refuse(verb, refusedStalled, textchat.ErrBusy)
	}
	j := &job{do: do, done: make(chan error, 1)}
	s.mu.RLock()
	if !s.open {
		s.mu.RUnlock()
		return fmt.Errorf("%s: store is closed", verb)
	}
	select {
	case s.jobs <- j:
		s.mu.RUnlock()
	default:
		s.mu.RUnlock()
		return s.refuse(verb, refusedQueue, textchat.ErrBusy)
	}
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	var err error
	select {
	case err = <-j.done:
	case <-ctx.Done():
		// Once begun it will be done; whoever gives up waiting does not know.
		_ = j.claimed.CompareAndSwap(false, true)
		return fmt.Errorf("%s: %w", verb, ctx.Err())
	case <-timer.C:
		switch {
		case j.claimed.CompareAndSwap(false, true):
			return s.refuse(verb, refusedStalled, textchat.ErrBusy)
		case !surely:
			return s.refuse(verb, refusedSilent, textchat.ErrUnsure)
		}
		select {
		case err = <-j.done:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", verb, ctx.Err())
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

func (s *Store) refuse(verb, reason string, err error) error {
	s.metrics.refused.WithLabelValues(reason).Inc()
	return fmt.Errorf("%s: %w", verb, err)
}

// late says whether the group under way should have been on the disk by now.
func (s *Store) late() bool {
	begun := s.begun.Load()
	return begun != 0 && time.Since(s.epoch)-time.Duration(begun) > s.patience
}

func (s *Store) writer() {
	defer close(s.done)
	group := make([]*job, 0, groupMax)
	take := func(j *job) {
		if j.claimed.CompareAndSwap(false, true) {
			group = append(group, j)
		}
	}
	for first := range s.jobs {
		clear(group)
		group = group[:0]
		take(first)
	fill:
		for len(group) < groupMax {
			select {
			case j, ok := <-s.jobs:
				if !ok {
					break fill
				}
				take(j)
			default:
				break fill
			}
		}
		if len(group) == 0 {
			continue
		}
		s.commit(group)
	}
}

// commit writes a group. Nearly always all of it succeeds: so it is done without
// savepoints first, as each of those has a copy made of every page that is touched
// after it. When a job fails the group is rolled back and done again with them.
func (s *Store) commit(group []*job) {
	begun := time.Since(s.epoch)
	s.begun.Store(int64(begun))
	results := make([]error, len(group))
	if s.attempt(group, results, false) != nil && len(group) > 1 {
		clear(results)
		_ = s.attempt(group, results, true) // the results have it
	}
	s.begun.Store(0) // before anybody hears of it, who may write again at once
	s.metrics.commit.Observe((time.Since(s.epoch) - begun).Seconds())
	for i, j := range group {
		j.done <- results[i]
	}
	s.tend()
}

// attempt is one transaction: all jobs or, with savepoints, those that succeed. When
// it was not committed every job has an error.
func (s *Store) attempt(group []*job, results []error, savepoints bool) error {
	err := s.tx.order("BEGIN IMMEDIATE")
	if err != nil {
		return failed(results, err)
	}
	for i, j := range group {
		if savepoints {
			results[i] = s.apart(j)
		} else if err = s.run(j); err != nil {
			break
		}
	}
	if err == nil {
		err = s.tx.order("COMMIT")
	}
	if err != nil {
		_ = s.tx.order("ROLLBACK")
		return failed(results, err)
	}
	return nil
}

// failed gives the error to all jobs that have none of their own.
func failed(results []error, err error) error {
	for i := range results {
		if results[i] == nil {
			results[i] = err
		}
	}
	return err
}

// apart is one job inside its savepoint: it fails alone.
func (s *Store) apart(j *job) error {
	if err := s.tx.order("SAVEPOINT one"); err != nil {
		return err
	}
	err := s.run(j)
	if err != nil {
		_ = s.tx.order("ROLLBACK TO one")
	}
	rerr := s.tx.order("RELEASE one")
	return errors.Join(err, rerr)
}

// run is one job; a panic is its failure.
func (s *Store) run(j *job) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return j.do(s.tx)
}

// keptMost bounds the statements of a txn. There are some 50, and those with lists of
// ids besides, one for each length.
const keptMost = 128

// txn is the writing connection as a job sees it. It keeps its statements: to parse
// one takes several times as long as to run it.
type txn struct {
	conn *sql.Conn
	kept map[string]*sql.Stmt
	made int64 // rows that were written since the log was brought into the file last
}

func (t *txn) prepare(q string) (*sql.Stmt, error) {
	if st := t.kept[q]; st != nil {
		return st, nil
	}
	if len(t.kept) >= keptMost {
		if err := t.forget(); err != nil {
			return nil, err
		}
	}
	st, err := t.conn.PrepareContext(context.Background(), q)
	if err == nil {
		t.kept[q] = st
	}
	return st, err
}

// forget closes all statements.
func (t *txn) forget() error {
	var errs []error
	for _, st := range t.kept {
		errs = append(errs, st.Close())
	}
	clear(t.kept)
	return errors.Join(errs...)
}

// exec runs one statement of a job.
func exec(t *txn, q string, args ...any) (int64, error) {
	r, err := t.do(q, args...)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	t.made += n
	return n, err
}

// order runs a statement that writes no rows itself: SQLite says of it how many the last
// one before it wrote.
func (t *txn) order(q string) error {
	_, err := t.do(q)
	return err
}

func (t *txn) do(q string, args ...any) (sql.Result, error) {
	st, err := t.prepare(q)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(context.Background(), args...)
}

func (t *txn) rows(q string, args ...any) (*sql.Rows, error) {
	st, err := t.prepare(q)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(context.Background(), args...)
}

func (t *txn) row(q string, args ...any) *sql.Row {
	st, err := t.prepare(q)
	if err != nil {
		return t.conn.QueryRowContext(context.Background(), q, args...) // which has the error
	}
	return st.QueryRowContext(context.Background(), args...)
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own plain structs
	}
	return string(b)
}

// one reads one JSON object, or ErrNoRecord.
func one[T any](row *sql.Row, verb string) (T, error) {
	var v T
	var data string
	if err := row.Scan(&data); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = textchat.ErrNoRecord
		}
		return v, fmt.Errorf("%s: %w", verb, err)
	}
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return v, fmt.Errorf("%s: %w", verb, err)
	}
	return v, nil
}

// all reads JSON objects.
func all[T any](rows *sql.Rows, err error, verb string) ([]T, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var data string
		if err := rows.Scan(&data); err != nil {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
		var v T
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return list, nil
}
