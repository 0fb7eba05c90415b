package chatserver

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"voicefleet/textchat"
)

// clean takes control and invisible format characters out of a name and the
// spaces around it away.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		// Joiners make emoji and are part of scripts; other format characters
		// (direction overrides, zero-width spaces) only help to look alike.
		if r == '\u200d' || r == '\u200c' {
			return r
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// name checks a name of a guild, channel, role or person.
func nameField(field, v string, most int) (string, error) {
	v = clean(v)
	if n := utf8.RuneCountInString(v); n < 1 || n > most {
		return "", textchat.InvalidField(field, "BASE_TYPE_BAD_LENGTH", fmt.Sprintf("Must be between 1 and %d in length.", most))
	}
	return v, nil
}

func usernameField(v string) (string, error) {
	v = strings.ToLower(strings.TrimSpace(v))
	if len(v) < textchat.MinUsername || len(v) > textchat.MaxUsername {
		return "", textchat.InvalidField("username", "BASE_TYPE_BAD_LENGTH",
			fmt.Sprintf("Must be between %d and %d in length.", textchat.MinUsername, textchat.MaxUsername))
	}
	for _, c := range []byte(v) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' {
			return "", textchat.InvalidField("username", "USERNAME_INVALID_CHARS", "Only letters a-z, digits, dot and underscore.")
		}
	}
	for _, own := range []string{"guest.", "bot.", "system"} {
		if strings.HasPrefix(v, own) {
			return "", textchat.InvalidField("username", "USERNAME_RESERVED", "Names do not begin with guest., bot. or system.")
		}
	}
	return v, nil
}

func passwordField(v string) error {
	if utf8.RuneCountInString(v) < textchat.MinPassword || len(v) > textchat.MaxPassword {
		return textchat.InvalidField("password", "BASE_TYPE_BAD_LENGTH",
			fmt.Sprintf("Must have at least %d characters and at most %d bytes.", textchat.MinPassword, textchat.MaxPassword))
	}
	return nil
}

// inviteAlphabet has no characters that are taken for one another.
const inviteAlphabet = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

// randomCode is n characters of the alphabet, 5.8 bits each.
func randomCode(n int) string {
	b := make([]byte, 0, n)
	var buf [64]byte
	for len(b) < n {
		rand.Read(buf[:])
		for _, r := range buf {
			// The rest of 256 modulo the alphabet is thrown away: no character is
			// likelier than another.
			if k := len(inviteAlphabet); int(r) < 256/k*k && len(b) < n {
				b = append(b, inviteAlphabet[int(r)%k])
			}
		}
	}
	return string(b)
}
