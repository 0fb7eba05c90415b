//go:build !opus

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "encode: build with -tags opus,nolibopusfile")
	os.Exit(1)
}
