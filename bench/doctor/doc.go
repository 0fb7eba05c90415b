// Package doctor looks at this machine as one that is to serve voice, or to load a
// server: kernel buffers, limits, the clock, the cores, what else runs here.
//
// In come /proc, /sys and two seconds of measuring ([Examine], which fills a
// [Snapshot]); out goes a [Result], one [Check] for each thing: found, wanted, a
// verdict, and the command that changes it. [Judge] decides from the snapshot
// alone.
package doctor
