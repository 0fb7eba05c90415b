package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"voicefleet/cmd/internal/ears"
)

// TestRolesApart runs each role as a process of its own (one text, two central,
// one edge) and kills, during a call, the central that serves a page: audio goes
// on, and the page resumes at the other by itself.
func TestRolesApart(t *testing.T) {
	dir := t.TempDir()
	busPort, textPort, media := freePort(t), freePort(t), freeMediaPort(t, 4)
	start(t, "", "bus", "--listen", fmt.Sprintf("127.0.0.1:%d", busPort)).await(`nats://`)
	bus := fmt.Sprintf("nats://127.0.0.1:%d", busPort)
	var centrals []*program
	var gateways []int
	for i := range 2 {
		port := freePort(t)
		gateways = append(gateways, port)
		centrals = append(centrals, start(t, "", "central", "--bus", bus, "--port", fmt.Sprint(port),
			"--advertise-endpoint", fmt.Sprintf(":%d", port), "--data", fmt.Sprintf("%s/central%d", dir, i)))
	}
	start(t, "", "edge", "--bus", bus, "--media-port", fmt.Sprint(media), "--http", fmt.Sprintf("127.0.0.1:%d", freePort(t))).await(`capacity`)
	h := &house{port: textPort, media: media, data: dir + "/text"}
	h.program = start(t, "", "text", "--bus", bus, "--port", fmt.Sprint(textPort), "--store", "sqlite:"+h.data)
	h.invite = h.await(`/invite/([A-Za-z0-9_-]+)`)
	for i, c := range centrals {
		c.await(fmt.Sprintf(`:%d`, gateways[i]))
	}

	a, b := visit(t, ada, h.page("/invite/"+h.invite), ""), visit(t, brian, h.page("/invite/"+h.invite), "")
	must(t, a.Click("button", "Join voice channel Lobby", 30*time.Second))
	must(t, b.Click("button", "Join voice channel Lobby", 30*time.Second))
	hears(t, a, "Ada", brian)
	hears(t, b, "Brian", ada)

	// Kill the central that Ada's page speaks to.
	served := -1
	for i, port := range gateways {
		n, err := ears.Sockets(a, fmt.Sprintf(":%d/?v=8", port))
		must(t, err)
		if n > 0 {
			served = i
		}
	}
	if served < 0 {
		t.Fatal("Ada's page has no voice socket")
	}
	gap := make(chan time.Duration, 1)
	go func() { gap <- longestGap(listenFor(t, b, 5*time.Second), 0) }()
	centrals[served].signal(syscall.SIGKILL)
	deadline := time.Now().Add(10 * time.Second)
	for {
		n, err := ears.Sockets(a, fmt.Sprintf(":%d/?v=8", gateways[1-served]))
		must(t, err)
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("Ada's page did not resume at the other gateway within 10 s")
		}
	}
	if g := <-gap; g > 350*time.Millisecond { // 200 ms of it are the voice's own pauses
		t.Errorf("Brian did not hear Ada for %v while her gateway died", g)
	}
	must(t, b.Wait("listitem", "Ada, speaking", 30*time.Second))
	must(t, a.Wait("listitem", "Brian, speaking", 30*time.Second))
}
