package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestFill: a group is filled as far as was asked, whoever was in it lives, and nothing
// is left afterwards.
func TestFill(t *testing.T) {
	if err := Missing(); err != nil {
		t.Skip(err)
	}
	g, err := New(fmt.Sprintf("voicebench-%d-fill", os.Getpid()), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	release, err := g.Fill(0.85)
	if err != nil {
		t.Fatal(err)
	}
	if used, err := g.Used(); err != nil || used < 0.85 || used > 0.95 {
		t.Errorf("%.2f used: %v", used, err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if used, err := g.Used(); err != nil || used > 0.3 {
		t.Errorf("%.2f used afterwards: %v", used, err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(g.dir); !os.IsNotExist(err) {
		t.Errorf("the group is left: %v", err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("who was in it: %v", err)
	}
}
