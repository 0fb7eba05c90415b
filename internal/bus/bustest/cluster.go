package bustest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"voicefleet/internal/freeport"
)

// asServer has a test's binary be a server of a cluster until it is killed.
const asServer = "VOICEFLEET_TEST_SERVER"

// Serve comes first in TestMain. In the process of a server it has start run it, from
// a bus.EmbeddedConfig as JSON, and does not return; elsewhere it does nothing.
func Serve(start func(config []byte) error) {
	config := os.Getenv(asServer)
	if config == "" {
		return
	}
	if err := start([]byte(config)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("up")
	select {}
}

// Servers is how many a cluster has.
const Servers = 3

// Cluster is three servers that run until the test ends. Server i is named bus<i>.
type Cluster struct {
	// URLs of the servers.
	URLs [Servers]string

	t       testing.TB
	configs [Servers]string
	stores  [Servers]string
	servers [Servers]*exec.Cmd
}

// Start makes a cluster and returns when its servers take connections.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	var ports [Servers]int
	var routes []string
	for i := range Servers {
		ports[i] = FreePort(t)
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", FreePort(t)))
	}
	dir := t.TempDir()
	for i := range Servers {
		c.stores[i] = filepath.Join(dir, fmt.Sprint(i))
		config, err := json.Marshal(map[string]any{
			"Name": fmt.Sprint("bus", i), "StoreDir": c.stores[i], "Port": ports[i], "Token": "secret",
			"ClusterListen": routes[i], "Routes": routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		c.configs[i] = string(config)
		c.URLs[i] = fmt.Sprintf("nats://secret@127.0.0.1:%d", ports[i])
	}
	c.Start()
	return c
}

// All are the servers, for those who start or kill them at once.
var All = []int{0, 1, 2}

// Start starts servers, all if none is named, and returns when they take connections.
func (c *Cluster) Start(which ...int) {
	c.t.Helper()
	if len(which) == 0 {
		which = All
	}
	var up sync.WaitGroup
	for _, i := range which {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asServer+"="+c.configs[i])
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			c.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			c.t.Fatal(err)
		}
		c.servers[i] = cmd
		c.t.Cleanup(func() { end(cmd) })
		up.Go(func() {
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
				c.t.Errorf("server %d says %q, error %v", i, line, err)
			}
		})
	}
	up.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// end ends a process, whether it stands still or has ended already.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// Kill ends servers without a word, all if none is named.
func (c *Cluster) Kill(which ...int) {
	if len(which) == 0 {
		which = All
	}
	for _, i := range which {
		_ = c.servers[i].Process.Kill()
	}
	for _, i := range which {
		_ = c.servers[i].Wait()
	}
}

// Freeze has a server stand still, with its connections open, and returns when it
// does.
func (c *Cluster) Freeze(i int) {
	c.t.Helper()
	pid := c.servers[i].Process.Pid
	err := syscall.Kill(pid, syscall.SIGSTOP)
	if err == nil {
		_, err = syscall.Wait4(pid, nil, syscall.WUNTRACED, nil)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Forget removes what servers that do not run have in files.
func (c *Cluster) Forget() {
	c.t.Helper()
	for _, dir := range c.stores {
		if err := os.RemoveAll(dir); err != nil {
			c.t.Fatal(err)
		}
	}
}

// FreePort is one that nobody listens on, nor gets from the kernel meanwhile.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.TCP()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
