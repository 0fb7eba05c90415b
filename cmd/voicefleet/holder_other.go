//go:build !linux

package main

func portHolder(string, int) string { return "" }
