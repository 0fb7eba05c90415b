package enrol

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// fileIssued lists every user key that was let in, one JSON line each, so that it
// can be revoked whatever becomes of the bucket.
const fileIssued = "issued.jsonl"

// issued is a line of it.
type issued struct {
	Member
	UserKey string `json:"user_key"`
}

func (a *Authority) note(m Member, userKey string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(a.dir, fileIssued), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(issued{m, userKey}), f.Close())
}

// issuedTo are the user keys that were let in as a member.
func (a *Authority) issuedTo(m Member) (userKeys []string, err error) {
	f, err := os.Open(filepath.Join(a.dir, fileIssued))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var k issued
		if err := json.Unmarshal(lines.Bytes(), &k); err != nil {
			return nil, err
		}
		if k.Member == m {
			userKeys = append(userKeys, k.UserKey)
		}
	}
	return userKeys, nil
}
