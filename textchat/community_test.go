package textchat

import "testing"

func TestIsEmoji(t *testing.T) {
	for _, yes := range []string{"👍", "👍🏽", "❤️", "1️⃣", "#️⃣", "🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👨‍👩‍👧‍👦", "©️", "↔️", "☃"} {
		if !IsEmoji(yes) {
			t.Errorf("%q is none", yes)
		}
	}
	for _, no := range []string{"", "a", "1", "12", "👍a", "a👍", "\ufe0f", "\u200d👍", "👍 ", "../..", "\x00", "1️⃣2️⃣", "🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊", "\xff"} {
		if IsEmoji(no) {
			t.Errorf("%q is one", no)
		}
	}
}
