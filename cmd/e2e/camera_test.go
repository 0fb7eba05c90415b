package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/cmd/internal/chromium"
	"voicefleet/cmd/internal/ears"
)

// film writes what the voice's camera shows: its colour, with a bar that wanders over it.
func (v voice) film(t *testing.T) string {
	t.Helper()
	const width, height, frames = 320, 180, 48
	chroma := [2]byte{240, 110} // Cb and Cr of blue
	if v.red {
		chroma = [2]byte{90, 240}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "YUV4MPEG2 W%d H%d F24:1 Ip A1:1 C420jpeg\n", width, height)
	for n := range frames {
		b.WriteString("FRAME\n")
		for i := range width * height {
			luma := byte(80)
			if x := i % width; x/8 == n*width/8/frames {
				luma = 235
			}
			b.WriteByte(luma)
		}
		for _, c := range chroma {
			b.Write(bytes.Repeat([]byte{c}, width*height/4))
		}
	}
	path := filepath.Join(t.TempDir(), v.name+".y4m")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

// picture is what a page shows of a camera: how red and blue it is, on average, and a sum
// that is another one when the bar is elsewhere.
type picture struct {
	Red, Blue float64
	Sum       int
}

// different is how many pictures that differ, looked for every 50 ms, are a moving one.
const different = 8

// look looks at the camera of that name; false while nothing is to be seen.
func look(t *testing.T, p ears.Page, name string) (picture, bool) {
	t.Helper()
	var seen picture
	must(t, p.Eval(fmt.Sprintf(`(() => {
		const v = document.querySelector('video[aria-label=%q]');
		if (!v || !v.videoWidth || v.readyState < 2) return { Red: 0, Blue: 0, Sum: 0 };
		const c = document.createElement('canvas'); c.width = 32; c.height = 18;
		const g = c.getContext('2d'); g.drawImage(v, 0, 0, 32, 18);
		const d = g.getImageData(0, 0, 32, 18).data;
		let r = 0, b = 0, s = 1;
		for (let i = 0; i < d.length; i += 4) { r += d[i]; b += d[i + 2]; s += i * d[i + 1]; }
		return { Red: r * 4 / d.length, Blue: b * 4 / d.length, Sum: s };
	})()`, name), &seen))
	return seen, seen.Sum > 0
}

// sees waits until a page shows the moving picture of a voice's camera, and returns how
// long that took.
func sees(t *testing.T, p ears.Page, of voice, name string) time.Duration {
	t.Helper()
	began := time.Now()
	sums := make(map[int]bool)
	var last picture
	for deadline := began.Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		seen, ok := look(t, p, name)
		last = seen
		if !ok || of.red != (seen.Red > seen.Blue+60) || of.red == (seen.Blue > seen.Red+60) {
			clear(sums)
			continue
		}
		if sums[seen.Sum] = true; len(sums) == different {
			return time.Since(began)
		}
	}
	t.Fatalf("%q does not show what the camera of %s films within 15 s, but %+v", name, of.name, last)
	return 0
}

// moves waits until a page shows a moving picture of that name, whatever it is of.
func moves(t *testing.T, p ears.Page, name string) {
	t.Helper()
	sums := make(map[int]bool)
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if seen, ok := look(t, p, name); ok {
			sums[seen.Sum] = true
		}
		if len(sums) == different {
			return
		}
	}
	t.Fatalf("%q shows no moving picture within 15 s", name)
}

// dark waits until a page shows no camera of that name.
func dark(t *testing.T, p ears.Page, name string) {
	t.Helper()
	var there bool
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		must(t, p.Eval(fmt.Sprintf(`!!document.querySelector('video[aria-label=%q]')`, name), &there))
		if !there {
			return
		}
	}
	t.Fatalf("%q is still shown", name)
}

// meet has two pages talk in the lobby.
func meet(t *testing.T, h *house) (a, b *chromium.Page) {
	t.Helper()
	url := h.page("/invite/" + h.invite)
	a, b = visit(t, ada, url, ""), visit(t, brian, url, "")
	must(t, a.Click("button", "Join voice channel Lobby", 30*time.Second))
	must(t, b.Click("button", "Join voice channel Lobby", 30*time.Second))
	awaitTone(t, a, "Ada", 2)
	awaitTone(t, b, "Brian", 0)
	return a, b
}

// TestCameras: two people show each other their cameras, one comes later and sees what is
// on already, and what is turned off is gone.
func TestCameras(t *testing.T) {
	h := startUp(t, "")
	a, b := meet(t, h)
	must(t, a.Click("button", "Turn on camera", 10*time.Second))
	took := sees(t, b, ada, "Camera of Ada")
	t.Logf("Brian saw Ada's camera move %v after it was turned on", took)
	sees(t, a, ada, "Your camera")
	must(t, b.Click("button", "Turn on camera", 10*time.Second))
	sees(t, a, brian, "Camera of Brian")

	// Who comes back sees what is on.
	must(t, b.Click("button", "Leave call", 10*time.Second))
	dark(t, a, "Camera of Brian")
	must(t, b.Click("button", "Join voice channel Lobby", 30*time.Second))
	took = sees(t, b, ada, "Camera of Ada")
	t.Logf("Brian saw it move %v after he came back", took)
	hears(t, b, "Brian", ada)

	must(t, a.Click("button", "Turn off camera", 10*time.Second))
	dark(t, b, "Camera of Ada")
	must(t, a.Click("button", "Turn on camera", 10*time.Second))
	sees(t, b, ada, "Camera of Ada")
}

// TestVideoIsShedFirst: a node that is busier than it may be forwards voices only, and
// says so.
func TestVideoIsShedFirst(t *testing.T) {
	h := startUp(t, "", "--shed-video", "0.0001")
	a, b := meet(t, h)
	must(t, b.Wait("button", "Turn on camera", 10*time.Second))
	must(t, a.Click("button", "Turn on camera", 10*time.Second))
	h.await(`(too much to do: video is not forwarded)`)
	must(t, a.Wait("StaticText", "The node has too much to do for video just now. Voices go on; video comes back by itself.", 10*time.Second))
	sees(t, a, ada, "Your camera")
	if _, ok := look(t, b, "Camera of Ada"); ok {
		t.Error("Brian sees Ada's camera")
	}
	hears(t, b, "Brian", ada)
	hears(t, a, "Ada", brian)
}

// TestCamerasFollow: the cameras of a call on a fleet are seen again when a media engine
// is killed, when their node is drained, and when it is killed.
func TestCamerasFollow(t *testing.T) {
	f := startFleet(t, "fra-1", "fra-2", "fra-3")
	a, b := meet(t, f.house)
	must(t, a.Click("button", "Turn on camera", 10*time.Second))
	must(t, b.Click("button", "Turn on camera", 10*time.Second))
	both := func(what string) {
		t.Helper()
		t.Logf("%s: Brian sees Ada move after %v, Ada Brian after %v more", what, sees(t, b, ada, "Camera of Ada"), sees(t, a, brian, "Camera of Brian"))
	}
	both("at first")

	from := f.call(t).Node
	f.edges[from].killChildren(t)
	both("engine killed")
	if now := f.call(t).Node; now != from {
		t.Errorf("the call went from %s to %s", from, now)
	}

	_, err := f.calls.Drain(t.Context(), allocator.Order{Node: from, By: "e2e"})
	must(t, err)
	notices(t, "Moved to ", a, b)
	both("drained")

	from = f.call(t).Node
	f.kill(t, from)
	notices(t, string(from)+" was lost: moved to ", a, b)
	both("node killed")
	hears(t, b, "Brian", ada)
}
