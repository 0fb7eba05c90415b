package dtlsterm

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// keyLog keeps the secrets of a client: "CLIENT_RANDOM random master".
type keyLog struct {
	mu             sync.Mutex
	random, master []byte
}

func (l *keyLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	words := bytes.Fields(line)
	l.random, _ = hex.DecodeString(string(words[1]))
	l.master, _ = hex.DecodeString(string(words[2]))
	return len(line), nil
}

// seal makes the client's epoch 1 record of a handshake body (RFC 5288 section
// 3).
func (l *keyLog) seal(t *testing.T, serverRandom, body []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys, err := prf.GenerateEncryptionKeys(l.master, l.random, serverRandom, 0, 16, 4, sha256.New)
	if err != nil {
		t.Error(err)
		return nil
	}
	block, _ := aes.NewCipher(keys.ClientWriteKey)
	aead, _ := cipher.NewGCM(block)
	head := []byte{0, 1, 0, 0, 0, 0, 0, 9} // epoch and sequence number: nonce and authenticated
	aad := append(bytes.Clone(head), typeHandshake, 0xfe, 0xfd)
	aad = binary.BigEndian.AppendUint16(aad, uint16(len(body)))
	sealed := aead.Seal(bytes.Clone(head), append(bytes.Clone(keys.ClientWriteIV), head...), body, aad)
	d := record(typeHandshake, 1, sealed...)
	copy(d[3:], head)
	return d
}

// A client that has keys puts what we cannot look into where its Finished
// belongs: its handshake fails and nothing else happens.
func TestSealedFragments(t *testing.T) {
	for name, body := range map[string][]byte{
		"empty message with an offset":     fragment(20, 0, 4, 34, 0),
		"two of them, as long as Finished": append(fragment(20, 0, 4, 34, 0), fragment(20, 0, 4, 35, 0)...),
		"Finished too short":               whole(20, 4, 1),
		"renegotiation":                    whole(1, 4, 1, 2, 3),
		"not a fragment":                   {20},
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminator(t, Config{Timeout: 300 * time.Millisecond})
			log := &keyLog{}
			begun := make(chan struct{})
			var h *Handshake
			var mu sync.Mutex
			var serverRandom []byte
			cl := newClient(t, func(d []byte) {
				<-begun
				if !holds(d, typeHandshake, 1) {
					h.Feed(d)
					return
				}
				var plain []byte
				records(d, func(kind byte, epoch uint16, b []byte) bool {
					if epoch == 0 {
						plain = append(plain, record(kind, 0, b...)...)
						copy(plain[len(plain)-len(b)-recordHeaderLen:], d[len(plain)-len(b)-recordHeaderLen:][:recordHeaderLen])
					}
					return true
				})
				h.Feed(plain)
				mu.Lock()
				random := serverRandom
				mu.Unlock()
				h.Feed(log.seal(t, random, body))
			}, preferred(), dtls.WithKeyLogWriter(log), dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256))
			var done chan Result
			h, done = outcome(t, term, cl.fingerprint(), func(d []byte) {
				records(d, func(_ byte, _ uint16, b []byte) bool {
					if b[0] == 2 { // ServerHello
						mu.Lock()
						serverRandom = bytes.Clone(b[fragmentHeaderLen+2:][:32])
						mu.Unlock()
					}
					return true
				})
				cl.receive(d)
			})
			close(begun)
			ctx, cancel := context.WithCancel(t.Context())
			shaken := make(chan error, 1)
			go func() { shaken <- cl.conn.HandshakeContext(ctx) }()
			if r := <-done; r.Err == nil {
				t.Error("keys without Finished")
			}
			cancel()
			<-shaken
			cl.conn.Close()
		})
	}
}
