package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// portHolder names the process that has the port, as "name (pid N)", or "" when
// that cannot be seen: the sockets of other users are hidden.
func portHolder(proto string, port int) string {
	tables := []string{"/proc/net/tcp", "/proc/net/tcp6"}
	state := "0A" // listening
	if proto == "UDP" {
		tables, state = []string{"/proc/net/udp", "/proc/net/udp6"}, "07"
	}
	for _, t := range tables {
		f, err := os.Open(t)
		if err != nil {
			continue
		}
		inode := socketInode(f, port, state)
		f.Close()
		if inode != "" {
			return inodeHolder(inode)
		}
	}
	return ""
}

// socketInode finds the socket of a port in a table of proc(5): columns sl,
// local_address, rem_address, st, tx:rx, tr:when, retrnsmt, uid, timeout, inode.
func socketInode(table io.Reader, port int, state string) string {
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(table); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) > 9 && strings.HasSuffix(col[1], suffix) && col[3] == state {
			return col[9]
		}
	}
	return ""
}

func inodeHolder(inode string) string {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(l, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			return "process " + pid
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
