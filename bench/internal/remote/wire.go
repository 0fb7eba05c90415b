package remote

import (
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"time"

	"voicefleet/bench"
	"voicefleet/internal/bus"
)

// Protocol is the number of the messages below. It rises when they change in a way
// that an older program does not understand.
const Protocol = 1

// Bounds of a call.
const (
	// maxBody bounds a request and an answer: the clients of a generator, 3,000
	// with an offer of 3 KiB each, are 9 MiB.
	maxBody = 16 << 20
	// partSize is how much of a body one message carries. In JSON it grows by a
	// third, and a request may have bus.MaxRequest.
	partSize = bus.MaxRequest / 2
	// maxCalls bounds the calls of a generator at once; further ones wait at the
	// coordinator.
	maxCalls = 256
	// maxKept bounds them together with those whose answer the coordinator has not
	// said it has.
	maxKept = 16 * maxCalls
	// maxHeld bounds the bytes of all requests and answers a generator keeps at
	// once; a call beyond them is refused.
	maxHeld = 256 << 20
	// maxText bounds the text of an error.
	maxText = 16 << 10
)

// Times of a lease and of a call.
const (
	// leaseTTL is how long either side goes on without a word of the other.
	leaseTTL = 4 * time.Second
	// beats are sent as often within a silence of leaseTTL: three may be lost.
	beats = 4
	// announceEvery keeps the announcement, which the bus drops after 5 s.
	announceEvery = time.Second
	// pollTime is how long a generator holds a question for an answer that is not
	// ready yet, before it says so.
	pollTime = 2 * time.Second
	// onTheWay is what a message may take beyond that.
	onTheWay = 3 * time.Second
	// closeTime bounds how long Free waits until a generator has closed all.
	closeTime = 10 * time.Second
)

// Info is what a generator says of itself.
type Info struct {
	Name string `json:"name"`
	// Host is the address its clients have; empty: whatever the way to the server
	// gives them.
	Host     string        `json:"host,omitempty"`
	Version  string        `json:"version"`
	Protocol int           `json:"protocol"`
	Machine  bench.Machine `json:"machine"`
}

// Belongs makes it a bus.Keyed: of another's name, or of none, it is no generator.
func (i *Info) Belongs(key string) bool { return i.Name == key && CheckName(key) == nil }

// names are what may stand in a subject of NATS and in a key.
var names = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckName says what a generator may be called.
func CheckName(name string) error {
	if !names.MatchString(name) {
		return fmt.Errorf("generator name %q: want 1 to 64 letters, digits, - and _", name)
	}
	return nil
}

// Version is that of this program: of its module, with the commit it was built
// from, when the build knows it.
func Version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "unversioned"
}

// Codes of a refusal.
const (
	codeBadRequest = "bad_request" // a message out of order or bounds
	codeBusy       = "busy"        // another coordinator has the generator, or too much is under way
	codeVersion    = "version"     // not the same program
	codeGone       = "gone"        // the lease is not, or no longer, the generator's
	codeFailed     = "failed"      // the verbs could not be opened or closed
)

func refuse(code, format string, args ...any) error {
	return &bus.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// refused says whether err is a refusal of that code.
func refused(err error, code string) bool {
	var e *bus.Error
	return errors.As(err, &e) && e.Code == code
}

// message is what a refusal says, without its code.
func message(err error) string {
	if e := (*bus.Error)(nil); errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// take asks for the generator. The answer is Info.
type take struct {
	Lease       string `json:"lease"` // random, chosen by the coordinator
	Coordinator string `json:"coordinator"`
	Version     string `json:"version"`
	Protocol    int    `json:"protocol"`
}

// beat keeps the lease. Done are calls whose answer the coordinator has, or wants
// no more.
type beat struct {
	Lease string   `json:"lease"`
	Done  []uint64 `json:"done,omitempty"`
}

// free ends the lease; it is answered when all is closed.
type free struct {
	Lease string `json:"lease"`
}

// ask is a part of a call. Its last part is answered as a fetch from 0 is, those
// before with Pending.
type ask struct {
	Lease  string   `json:"lease"`
	Call   uint64   `json:"call"`
	Verb   string   `json:"verb"`
	Within int64    `json:"within_ms,omitempty"` // the verb is ended after that; 0: never
	Size   int      `json:"size"`                // of the whole body
	Offset int      `json:"offset"`
	Data   []byte   `json:"data,omitempty"`
	Done   []uint64 `json:"done,omitempty"` // as in beat
}

// fetch asks for the answer of a call from an offset.
type fetch struct {
	Lease  string `json:"lease"`
	Call   uint64 `json:"call"`
	Offset int    `json:"offset"`
}

// part is a part of an answer.
type part struct {
	Pending bool   `json:"pending,omitempty"` // ask again
	Err     string `json:"err,omitempty"`     // of the verb; instead of a body
	Size    int    `json:"size"`
	Data    []byte `json:"data,omitempty"`
}
