// Encode makes the tracks in testdata of package opus. It needs libopus: build it
// with -tags opus,nolibopusfile.
package main
