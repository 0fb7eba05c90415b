// Voicefleet is the one program of a community's voice: all of it in one
// process (up), or one role of it (text, central, edge, bus), and the operator's
// command line (ctl).
//
// A role is put together in the file of its name, every constructor once, in the
// order of living; life.go ends it in the order of dying. Words for people are
// in words.go.
package main
