# The text part's share of the tests, from the logs of deploy/test.sh: its packages, and
# those tests of the programs that are of text. What runs side by side counts by its part:
# a test of the seconds of its package, a package of those that all of them and the other
# steps (alone) would take one after the other. wall is the seconds that all of it took.

/^--- (PASS|FAIL): Test/ {
	seconds = substr($4, 2) + 0
	tests += seconds
	if ($3 ~ /^Test(SeveralTexts|Ledger|DiscordGo|Disgo|DiscordJSScript|TwoPeopleWrite|ReadBack|Accessible|LargeGuildOnThePage)$/) of_text += seconds
}

/^(ok|FAIL)[ \t]+voicefleet\// && $3 ~ /^[0-9.]+s$/ {
	all += $3
	if ($2 ~ /^voicefleet\/(textchat|bench\/(crowd|gateway|store))/) text += $3
	else if (tests > 0) text += $3 * of_text / tests
	tests = of_text = 0
}

function minutes(s) { return sprintf("%d:%02d", s / 60, s % 60) }

END {
	all += alone
	printf "text            %s min, its share: %s of the %s that all take one after the other\n", minutes(wall * text / all), minutes(text), minutes(all)
}
