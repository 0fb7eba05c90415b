// Package textchattest holds what stores are measured by: a model of
// [textchat.Store] in memory, seeded random histories that are run against the
// model and a store at once and must get the same answers from both, and the
// start of a real CQL server.
package textchattest
