package textchattest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"voicefleet/internal/freeport"
)

// CQLEnv names, when it is set, a CQL server to test instead of one that is
// started: HOST:PORT, or an address cql://... with user and options.
const CQLEnv = "VOICEFLEET_CQL"

// CQLServer is a real CQL server: Apache Cassandra, started when it is first asked
// for, by deploy/cql/run.sh. It ends with this process.
type CQLServer struct {
	// Profile is "quick" (default), "safe" or "durable", see the script. What was
	// acknowledged outlives Restart but with "quick".
	Profile string
	// Dir is where its data lie (default: the folder for temporary files).
	Dir string
	// Env are more variables for the script, which come over ours.
	Env []string

	once sync.Once
	// Set by once; addr and pid by Restart, too.
	err  error
	cmd  *exec.Cmd
	hold io.WriteCloser // the script's standard input: it ends when this does
	says *bufio.Reader
	addr string
	pid  int
}

// ErrNoJava is what a machine without Java and Maven gets.
var ErrNoJava = errors.New("the CQL server needs Java 17 and Maven: sh deploy/setup.sh test installs them")

// Address starts the server if need be and returns its HOST:PORT, or what CQLEnv
// says. Without Java or
// Maven the test is skipped; a server that does not start fails it.
func (c *CQLServer) Address(t testing.TB) string {
	t.Helper()
	addr, err := c.Start()
	if errors.Is(err, ErrNoJava) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Start is Address for what is no test.
func (c *CQLServer) Start() (string, error) {
	c.once.Do(func() { c.err = c.start() })
	return c.addr, c.err
}

// Pid is the server's process, to be stopped by crash tests; zero when it is somebody
// else's. Restart gives it another one.
func (c *CQLServer) Pid() int { return c.pid }

// Restart kills the server without a word and returns when it answers again, at its
// address and with its data. Nobody else may use c meanwhile.
func (c *CQLServer) Restart() error {
	if c.cmd == nil {
		return errors.New("restart CQL server: it is somebody else's")
	}
	if _, err := io.WriteString(c.hold, "\n"); err != nil {
		return fmt.Errorf("restart CQL server: %w", err)
	}
	if err := c.hear(); err != nil {
		return fmt.Errorf("restart CQL server: %w", err)
	}
	return nil
}

// hear reads the line by which the script says that the server answers.
func (c *CQLServer) hear() error {
	line, err := c.says.ReadString('\n')
	if err != nil {
		return err
	}
	addr, pid, _ := strings.Cut(strings.TrimSpace(line), " ")
	c.addr = addr
	c.pid, err = strconv.Atoi(pid)
	return err
}

func (c *CQLServer) start() error {
	if c.addr = os.Getenv(CQLEnv); c.addr != "" && c.Env == nil {
		return nil
	}
	root, err := repository()
	if err != nil {
		return err
	}
	ports := make([]string, 2)
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	profile := c.Profile
	if profile == "" {
		profile = "quick"
	}
	var words strings.Builder
	cmd := exec.Command("sh", filepath.Join(root, "deploy/cql/run.sh"), "--follow", profile)
	cmd.Env = append(os.Environ(), "CQL_PORT="+ports[0], "CQL_STORAGE_PORT="+ports[1])
	if c.Dir != "" {
		cmd.Env = append(cmd.Env, "TMPDIR="+c.Dir)
	}
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.Stderr = &words
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start CQL server: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start CQL server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start CQL server: %w", err)
	}
	c.cmd, c.hold, c.says = cmd, stdin, bufio.NewReader(stdout)
	if err := c.hear(); err != nil {
		err = cmd.Wait()
		c.cmd = nil
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 3 {
			return fmt.Errorf("%w (%s)", ErrNoJava, strings.TrimSpace(words.String()))
		}
		return fmt.Errorf("start CQL server: %w: %s", err, strings.TrimSpace(words.String()))
	}
	return nil
}

// CQLCluster starts three nodes, at 127.0.0.1 to 127.0.0.3, of some 700 MB each. They end
// with the test.
func CQLCluster(t testing.TB) []*CQLServer {
	t.Helper()
	var ports [2]string
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			t.Fatal(err)
		}
	}
	var nodes []*CQLServer
	for i, token := range []string{"-6148914691236517206", "0", "6148914691236517205"} {
		n := &CQLServer{Env: []string{"CQL_HOST=127.0.0." + strconv.Itoa(i+1), "CQL_PORT=" + ports[0], "CQL_STORAGE_PORT=" + ports[1],
			"CQL_SEEDS=127.0.0.1", "CQL_TOKEN=" + token, "CQL_HEAP=384m", "CQL_PATIENCE=30000"}}
		n.Address(t)
		nodes = append(nodes, n)
		t.Cleanup(func() { _ = n.Stop() }) // one that was killed says so
	}
	return nodes
}

// Stop ends the server and removes its data.
func (c *CQLServer) Stop() error {
	if c.cmd == nil {
		return nil
	}
	return errors.Join(c.hold.Close(), c.cmd.Wait())
}

// repository is the root of the tree, above the folder of the test.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = up
	}
}

func freePort() (string, error) {
	port, err := freeport.TCP()
	return strconv.Itoa(port), err
}
