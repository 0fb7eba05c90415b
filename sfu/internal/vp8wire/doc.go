// Package vp8wire reads and renumbers the payload descriptor of VP8 over RTP (RFC
// 7741 section 4.2). A listener that is switched from one camera to another gets
// picture numbers that go on, as if there were one encoder.
package vp8wire
