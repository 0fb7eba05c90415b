package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite" // the driver

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
)

// Store is one database file.
type Store struct {
	// Immutable.
	read  *sql.DB
	write *sql.DB
	jobs  chan job
	done  chan struct{} // closed when the writer has ended
	begun *sql.Conn     // owned by the writer
	once  sync.Once

	mu sync.RWMutex
	// Guarded by mu: jobs is open. A writer holds it shared while it enqueues.
	open bool
}

var _ textchat.Store = (*Store)(nil)

type job struct {
	do   func(*sql.Conn) error
	done chan error
}

// Open opens or makes the database in dir.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	file := filepath.Join(dir, File)
	write, err := openFile(file, "")
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	write.SetMaxOpenConns(1)
	if err := migrate(write); err != nil {
		write.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	read, err := openFile(file, "&_pragma=query_only(1)")
	if err != nil {
		write.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	conn, err := write.Conn(context.Background())
	if err != nil {
		read.Close()
		write.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{read: read, write: write, jobs: make(chan job, writeQueue), done: make(chan struct{}), begun: conn, open: true}
	go s.writer()
	return s, nil
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
		_, cerr := s.begun.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
		err = errors.Join(cerr, s.begun.Close(), s.read.Close(), s.write.Close())
	})
	return err
}

// change runs do in the next group and returns when it is durable. do may run
// only statements on its connection; what it keeps outside must be set, not
// added to.
func (s *Store) change(ctx context.Context, verb string, do func(*sql.Conn) error) error {
	j := job{do: do, done: make(chan error, 1)}
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
		return fmt.Errorf("%s: %w", verb, textchat.ErrBusy)
	}
	// Once queued it will be done; whoever gives up waiting does not know.
	select {
	case err := <-j.done:
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", verb, ctx.Err())
	}
}

func (s *Store) writer() {
	defer close(s.done)
	group := make([]job, 0, groupMax)
	for first := range s.jobs {
		group = append(group[:0], first)
	fill:
		for len(group) < groupMax {
			select {
			case j, ok := <-s.jobs:
				if !ok {
					break fill
				}
				group = append(group, j)
			default:
				break fill
			}
		}
		s.commit(group)
	}
}

func (s *Store) commit(group []job) {
	ctx := context.Background()
	results := make([]error, len(group))
	_, err := s.begun.ExecContext(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		for i, j := range group {
			results[i] = s.runOne(ctx, j)
		}
		if _, err = s.begun.ExecContext(ctx, "COMMIT"); err != nil {
			_, _ = s.begun.ExecContext(ctx, "ROLLBACK")
		}
	}
	for i, j := range group {
		if err != nil && results[i] == nil {
			results[i] = err
		}
		j.done <- results[i]
	}
}

// runOne is one job inside its savepoint: it fails, or panics, alone.
func (s *Store) runOne(ctx context.Context, j job) (err error) {
	if _, err := s.begun.ExecContext(ctx, "SAVEPOINT one"); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
		if err != nil {
			_, _ = s.begun.ExecContext(ctx, "ROLLBACK TO one")
		}
		_, rerr := s.begun.ExecContext(ctx, "RELEASE one")
		err = errors.Join(err, rerr)
	}()
	return j.do(s.begun)
}

// exec runs one statement of a job.
func exec(c *sql.Conn, q string, args ...any) (int64, error) {
	r, err := c.ExecContext(context.Background(), q, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
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
