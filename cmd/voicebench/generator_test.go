package main

import (
	"strings"
	"testing"
)

func TestGeneratorRefusals(t *testing.T) {
	t.Setenv(busEnv, "")
	for text, args := range map[string][]string{
		"voicefleet bus": {"generator"},
		"IP address":     {"generator", "--bus", "nats://127.0.0.1:1", "--host", "here"},
	} {
		cmd := root()
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want %q in it", args, err, text)
		}
	}
}
