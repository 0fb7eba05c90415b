package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"
)

// userCommand is what an operator owes a person: to tell what is kept of them, and
// to erase it.
func (c *ctl) userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Tell or erase what is kept of a person", Long: wordsUser,
		Example: "  voicefleet ctl user export ada --out ada.ndjson\n  voicefleet ctl user erase ada --yes"}
	var out string
	export := &cobra.Command{
		Use: "export USER", Short: "Write all that is kept of a person: a line of JSON for each thing",
		Example: "  voicefleet ctl user export ada --out ada.ndjson\n  voicefleet ctl user export 1234567890123456789 | grep '\"message\"' | wc -l",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, a []string) error { return c.exportUser(cmd.Context(), a[0], out) },
	}
	export.Flags().StringVar(&out, "out", "", "file to write to, which must not exist (default: standard output)")
	var yes bool
	erase := &cobra.Command{
		Use: "erase USER", Short: "Erase a person: messages, files, reactions, memberships, name and password",
		Example: "  voicefleet ctl user erase ada --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if !yes {
				return errors.New(wordsEraseSure(a[0]))
			}
			return c.eraseUser(cmd.Context(), a[0], cmd.ErrOrStderr())
		},
	}
	erase.Flags().BoolVar(&yes, "yes", false, "really; it cannot be undone")
	cmd.AddCommand(export, erase)
	return cmd
}

// personLine is what ctl reads of the lines of an export or erasure.
type personLine struct {
	Error          string       `json:"error"`
	Progress, Done *personFound `json:",omitempty"`
}

type personFound struct {
	Channels, Messages, Guilds, Reactions, Mentions int
}

// maxLine bounds a line of a stream: a message with all it may have.
const maxLine = 4 << 20

// lines asks and reads the answer line by line, until one says that it is done. An
// answer that ends before is an error.
func (c *ctl) lines(ctx context.Context, method, path string, each func(line []byte, l personLine) error) error {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxLine))
		var refusal struct{ Message string }
		if json.Unmarshal(body, &refusal) != nil || refusal.Message == "" {
			refusal.Message = resp.Status
		}
		return errors.New(refusal.Message)
	}
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		var l personLine
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return fmt.Errorf("read answer of %s: %w", path, err)
		}
		if l.Error != "" {
			return errors.New(l.Error)
		}
		if err := each(s.Bytes(), l); err != nil {
			return err
		}
		if l.Done != nil {
			return nil
		}
	}
	return errors.Join(errors.New("the answer ended early: what was written is not all. Try again"), s.Err())
}

func (c *ctl) exportUser(ctx context.Context, user, file string) (err error) {
	to := c.out
	if file != "" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--out: %w", err)
		}
		defer func() {
			if e := f.Close(); err == nil && e != nil {
				err = fmt.Errorf("--out: %w", e)
			}
		}()
		to = f
	}
	return c.lines(ctx, "GET", "/api/admin/users/"+url.PathEscape(user)+"/export", func(line []byte, l personLine) error {
		if _, err := fmt.Fprintf(to, "%s\n", line); err != nil {
			return err
		}
		if l.Done != nil && file != "" {
			fmt.Fprintf(c.out, "%s: %d messages, in %d guilds\n", file, l.Done.Messages, l.Done.Guilds)
		}
		return nil
	})
}

func (c *ctl) eraseUser(ctx context.Context, user string, progress io.Writer) error {
	return c.lines(ctx, "DELETE", "/api/admin/users/"+url.PathEscape(user), func(line []byte, l personLine) error {
		switch {
		case l.Progress != nil:
			fmt.Fprintf(progress, "looked through %d channels, erased %d messages and %d reactions\n", l.Progress.Channels, l.Progress.Messages, l.Progress.Reactions)
		case l.Done != nil && c.json:
			fmt.Fprintf(c.out, "%s\n", line)
		case l.Done != nil:
			fmt.Fprintf(c.out, "%s is erased: %d messages, %d memberships, %d reactions; no longer named in %d messages of others\n",
				user, l.Done.Messages, l.Done.Guilds, l.Done.Reactions, l.Done.Mentions)
		}
		return nil
	})
}
