package chatserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/cql"
	"voicefleet/textchat/internal/filestore"
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

// FilesAddress says where attachments are.
type FilesAddress struct {
	s3 filestore.S3Config
}

// ParseFiles reads s3://HOST/BUCKET; empty is the data folder. Credentials are those
// in $AWS_ACCESS_KEY_ID, $AWS_SECRET_ACCESS_KEY and $AWS_SESSION_TOKEN, as other
// clients of S3 read them.
func ParseFiles(address string) (FilesAddress, error) {
	var a FilesAddress
	if address == "" {
		return a, nil
	}
	c, err := filestore.ParseS3(address)
	if err != nil {
		return a, err
	}
	c.Access, c.Secret, c.Session = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")
	if c.Access == "" || c.Secret == "" {
		return a, errors.New("a bucket wants $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY")
	}
	a.s3 = c
	return a, nil
}

// Open opens the bucket; files of the data folder are nil, as in Config.
func (a FilesAddress) Open(ctx context.Context) (Files, error) {
	if a.s3.Endpoint == "" {
		return nil, nil
	}
	return filestore.OpenS3(ctx, a.s3)
}

// Folder is that of an embedded store, or empty.
func (a StoreAddress) Folder() string { return a.folder }

// Open opens the store; the caller closes it.
func (a StoreAddress) Open(ctx context.Context, metrics prometheus.Registerer, log *slog.Logger) (textchat.Store, error) {
	if a.folder != "" {
		return sqlite.Open(a.folder, sqlite.Config{Metrics: metrics})
	}
	c := a.cql
	c.Metrics, c.Log = metrics, log
	return cql.Open(ctx, c)
}
