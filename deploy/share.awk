# What the text part took of the tests, in seconds, from the logs of deploy/test.sh: the
# times of its packages, and those of the tests of the programs that are of text. Others
# ran beside them: the sum is more than what the part adds to the whole.

/^(ok|FAIL)[ \t]+voicefleet\/(textchat|bench\/(crowd|gateway|store))/ && $3 ~ /^[0-9.]+s$/ { sum += $3 }

/^--- (PASS|FAIL): Test(SeveralTexts|Ledger|DiscordGo|Disgo|DiscordJSScript|TwoPeopleWrite|ReadBack|Accessible|LargeGuildOnThePage) / {
	sub(/^\(/, "", $4)
	sum += $4
}

END { printf "%d\n", sum }
