package enrol

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// fileBundled lists the user keys of identities that were made by hand, one JSON
// line each, so that they can be revoked.
const fileBundled = "bundled.jsonl"

// bundledKey is a line of it.
type bundledKey struct {
	Member
	UserKey string `json:"user_key"`
}

func (a *Authority) noteBundled(m Member, userKey string) error {
	f, err := os.OpenFile(filepath.Join(a.dir, fileBundled), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(bundledKey{m, userKey}), f.Close())
}

// bundled are the user keys that were made by hand for a member.
func (a *Authority) bundled(m Member) (userKeys []string, err error) {
	f, err := os.Open(filepath.Join(a.dir, fileBundled))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var k bundledKey
		if err := json.Unmarshal(lines.Bytes(), &k); err != nil {
			return nil, err
		}
		if k.Member == m {
			userKeys = append(userKeys, k.UserKey)
		}
	}
	return userKeys, nil
}
