# What a log of deploy/test.sh says of its failures, not the thousand lines around them:
# of each failed test the first and the last lines it said, of a panic or a data race
# its beginning, what did not compile, and which goals of a measurement were missed.
#
# Tests of a package run side by side: a line is of the test that the last === or ---
# line names.

BEGIN {
	first = 5
	last = 25
	block = 20 # lines of a panic
}

/^=== (RUN|PAUSE|CONT|NAME) / {
	who = $3
	left = saying = 0
	if ($2 == "RUN") {
		forget(who)
		delete failed[who]
	}
	next
}

/^ *--- (PASS|SKIP): / {
	who = $3
	left = saying = 0
	forget(who)
	next
}

/^ *--- FAIL: / {
	who = $3
	left = saying = 0
	tell(who)
	print
	failed[who] = 1
	next
}

# The end of a package: what did not come to its own end was broken off.
/^(FAIL|ok  )\t/ {
	for (name in said) {
		if ($1 == "FAIL") {
			tell(name)
			print "--- not ended: " name
		} else
			forget(name)
	}
	who = ""
	left = saying = 0
}

/^(panic: |fatal error: |WARNING: DATA RACE|goleak: )/ { left = block }

left > 0 {
	left--
	print substr($0, 1, 400)
	next
}

# The further lines of what a test says stand under the first.
/^    +[A-Za-z0-9_]+\.go:[0-9]+: / || saying && /^     / {
	saying = 1
	if (who in failed) # without -v they come after the verdict
		print substr($0, 1, 400)
	else
		keep(who)
	next
}

{ saying = 0 }

# Of the programs that measure, what was missed or went wrong; before that, the rounds.
/^ +[0-9]+ s  .* [0-9]+\/[0-9]+( \(|:|;)/ { round[++rounds] = substr($0, 1, 400) }

/^(MISSED|PARTIAL:|voicebench:) / {
	for (i = 1; i <= rounds; i++)
		print round[i]
	rounds = 0
	print
}

/^FAIL.|^[^ ]+\.go:[0-9]+:[0-9]+: |error TS[0-9]+|^dist\/ is not/ { print }

function keep(name) {
	said[name]++
	line[name, said[name] <= first ? said[name] : first + 1 + said[name] % last] = substr($0, 1, 400)
}

function tell(name,    i, n) {
	n = said[name]
	for (i = 1; i <= first && i <= n; i++)
		print line[name, i]
	if (n > first + last)
		print "    ... " (n - first - last) " lines ..."
	for (i = first + 1; i <= n; i++)
		if (i > n - last)
			print line[name, first + 1 + i % last]
	forget(name)
}

function forget(name,    i) {
	if (name in said)
		for (i = 1; i <= first + last; i++)
			delete line[name, i]
	delete said[name]
}
