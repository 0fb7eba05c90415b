package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"voicefleet/textchat/chatserver"
)

// copyShown is how often a copy tells how far it is.
const copyShown = 2 * time.Second

// copyCommand takes what a single machine kept along to a cluster.
func copyCommand() *cobra.Command {
	var store, files string
	cmd := &cobra.Command{
		Use: "copy FOLDER", Short: "Take accounts and messages of a data folder, or a backup, along to a cluster", Long: wordsCopy,
		Example: wordsCopyExamples,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			to, err := chatserver.ParseStore(store)
			if err == nil && to.Folder() != "" {
				err = errors.New("want cql://HOST,HOST/KEYSPACE; a folder is moved as it is")
			}
			if err != nil {
				return fmt.Errorf("--store: %w", err)
			}
			attached, err := chatserver.ParseFiles(files)
			if err != nil {
				return fmt.Errorf("--files: %w", err)
			}
			free, err := unused(a[0])
			if err != nil {
				return err
			}
			defer free()
			ctx, stop := untilSignal(cmd.Context(), func() { fmt.Fprintln(cmd.ErrOrStderr(), wordsCopyEnding) })
			defer stop()
			bucket, err := attached.Open(ctx)
			if err != nil {
				return fmt.Errorf("--files: %w", err)
			}
			said := time.Now()
			done, err := copyStore(ctx, a[0], to, func(c chatserver.Copied) {
				if now := time.Now(); now.Sub(said) >= copyShown {
					said = now
					fmt.Fprintln(cmd.ErrOrStderr(), wordsCopying(c))
				}
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), wordsCopied(done))
			if bucket == nil {
				return nil
			}
			n, err := chatserver.RestoreFiles(ctx, a[0], bucket)
			fmt.Fprintln(cmd.OutOrStdout(), wordsRestoredFiles(n))
			return err
		},
	}
	cmd.Flags().StringVar(&store, "store", "", "where to: cql://HOST,HOST/KEYSPACE, with the options that text takes")
	cmd.Flags().StringVar(&files, "files", "", "bucket to bring the attachments to, those that it lacks: s3://HOST/BUCKET (default: none)")
	_ = cmd.MarkFlagRequired("store")
	return cmd
}

// unused makes sure that no program runs on a folder, if it is a data folder; free gives
// it back.
func unused(dir string) (free func(), err error) {
	if _, err := os.Stat(filepath.Join(dir, fileLock)); errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

func copyStore(ctx context.Context, dir string, at chatserver.StoreAddress, shown func(chatserver.Copied)) (done chatserver.Copied, err error) {
	to, err := at.Open(ctx, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return chatserver.Copy(ctx, dir, to, time.Now(), shown)
}
