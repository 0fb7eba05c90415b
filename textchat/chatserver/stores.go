package chatserver

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/cql"
	"voicefleet/textchat/internal/sqlite"
)

// StorePasswordEnv holds the password for a CQL store whose address names a user
// without one: addresses are seen in the list of processes.
const StorePasswordEnv = "VOICEFLEET_CQL_PASSWORD"

// StoreAddress says where a store is.
type StoreAddress struct {
	folder string
	cql    cql.Config
}

// ParseStore reads sqlite:FOLDER or cql://HOST,HOST/KEYSPACE.
func ParseStore(address string) (StoreAddress, error) {
	var a StoreAddress
	if folder, ok := strings.CutPrefix(address, "sqlite:"); ok && folder != "" {
		var err error
		a.folder, err = filepath.Abs(folder)
		return a, err
	}
	if !strings.HasPrefix(address, cql.Scheme) {
		return a, fmt.Errorf("%q: want sqlite:FOLDER or %sHOST,HOST/KEYSPACE", address, cql.Scheme)
	}
	c, err := cql.ParseAddress(address)
	if err != nil {
		return a, err // without the address: there may be a password in it
	}
	if c.User != "" && c.Password == "" {
		c.Password = os.Getenv(StorePasswordEnv)
	}
	a.cql = c
	return a, nil
}

// Folder is that of an embedded store, or empty.
func (a StoreAddress) Folder() string { return a.folder }

// Open opens the store; the caller closes it.
func (a StoreAddress) Open(ctx context.Context, metrics prometheus.Registerer, log *slog.Logger) (textchat.Store, error) {
	if a.folder != "" {
		return sqlite.Open(a.folder)
	}
	c := a.cql
	c.Metrics, c.Log = metrics, log
	return cql.Open(ctx, c)
}
