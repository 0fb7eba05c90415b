// Package capacity measures, in less than 200 ms, how many voice packets per
// second the machine can encrypt and send.
package capacity
