// Package emodel rates a conversation by the E-model of ITU-T G.107 (06/2015): R from
// 0 to 100 out of loss and delay, and the mean opinion score that R stands for.
//
// All that is not in [Input] has the default value of table 2 of the recommendation:
// headsets that are as loud as telephones, quiet rooms, no echo (T = Tr = 0, as behind
// an echo canceller), no advantage. The rating then starts from 93.2.
//
// It is the narrowband model. It knows nothing of what wideband speech gains, so its
// figures compare runs and tell how loss and delay spoil them; they are not the
// opinion of anyone who listened.
package emodel

import (
	"math"
	"time"
)

// Codec is how a codec bears its own coding and loss.
type Codec struct {
	Ie  float64 // equipment impairment without loss, 0 to 95
	Bpl float64 // packet-loss robustness, in per cent of loss; above 0
}

// Codecs. Those of ITU-T G.113 appendix I table I.3 are for comparison.
var (
	// Opus is Opus at 40 kbit/s, variable rate, 20 ms, concealed, without redundancy.
	//
	// G.113 has no values for Opus. ASSUMPTION: these are from listening tests of
	// others (super-wideband, 40 kbit/s, random loss: Ie 10.67, Bpl 9.79), as published
	// with Alahmadi, Pocta, Melvin, "An Adaptive Bitrate Switching Algorithm for Speech
	// Applications in Context of WebRTC", ACM TOMM 17(4), 2021. They were found for
	// another band and are taken here as they are. A call without loss so gets at most
	// R 82.5 and MOS 4.12, below what people say of Opus.
	Opus = Codec{Ie: 10.67, Bpl: 9.79}
	// G711 conceals lost packets (appendix I of G.711).
	G711 = Codec{Ie: 0, Bpl: 25.1}
	// G711Bare puts silence for lost packets.
	G711Bare = Codec{Ie: 0, Bpl: 4.3}
	// G729 is G.729A with silence suppression.
	G729 = Codec{Ie: 11, Bpl: 19}
)

// OpusDelay is what an Opus sender adds before the network: a frame of 20 ms and 6.5 ms
// of look-ahead (RFC 6716 section 2; libopus reports 312 samples at 48 kHz).
const OpusDelay = 26500 * time.Microsecond

// Input of R.
type Input struct {
	// Loss is the share of frames that were not there at their playout, 0 to 1.
	Loss float64
	// BurstR is the mean length of rows of lost frames over that of random loss of the
	// same share; below 1 it is taken as 1, random.
	BurstR float64
	// Delay is from mouth to ear: coding ([OpusDelay]), network and jitter buffer.
	Delay time.Duration
	Codec Codec
}

// The default values of G.107 table 2. Levels are in dB, dBm0p or dB(A) as there.
const (
	slr  = 8.0   // send loudness
	rlr  = 2.0   // receive loudness
	stmr = 15.0  // sidetone masking
	lstr = 18.0  // listener sidetone
	ds   = 3.0   // D-value of the telephone, send side
	telr = 65.0  // talker echo loudness
	wepl = 110.0 // weighted echo path loss
	qdu  = 1.0   // quantizing distortion units
	nc   = -70.0 // circuit noise
	nfor = -64.0 // noise floor at the receive side
	ps   = 35.0  // room noise, send side
	pr   = 35.0  // room noise, receive side
	mt   = 100.0 // ms of delay that nobody minds
	st   = 1.0   // delay sensitivity
)

// R is the transmission rating, 0 (useless) to 93.2: R = Ro - Is - Id - Ie-eff.
// Above 90 users are very satisfied, above 80 satisfied, above 70 some are not, above
// 60 many are not, above 50 nearly all are not; below it is not recommended (G.107
// annex B).
func R(in Input) float64 {
	r := base - delayed(in.Delay) - equipment(in)
	return min(max(r, 0), 100)
}

// base is Ro - Is and what of Id is left at no delay: the 93.2.
var base = func() float64 {
	no := noise()
	ro := 15 - 1.5*(slr+no)
	return ro - simultaneous(ro, no) - listenerEcho(ro)
}()

// power adds levels in dB.
func power(levels ...float64) float64 {
	sum := 0.0
	for _, l := range levels {
		sum += math.Pow(10, l/10)
	}
	return 10 * math.Log10(sum)
}

// noise is No of section 7.1, all noise as one source.
func noise() float64 {
	const olr = slr + rlr
	nos := ps - slr - ds - 100 + 0.004*(ps-olr-ds-14)*(ps-olr-ds-14)
	pre := pr + 10*math.Log10(1+math.Pow(10, (10-lstr)/10))
	nor := rlr - 121 + pre + 0.008*(pre-35)*(pre-35)
	return power(nc, nos, nor, nfor+rlr)
}

// simultaneous is Is of section 7.2: too loud, sidetone, quantizing.
func simultaneous(ro, no float64) float64 {
	const olr = slr + rlr
	x := (olr + 0.2*(64+no-rlr)) / 8
	loud := 20 * (root(x, 8) - x)

	side := -power(-stmr, -telr) // T is 0
	sidetone := 12*root((side-13)/6, 8) - 28*root((side+1)/19.4, 35) - 13*root((side-3)/33, 13) + 29

	q := 37 - 15*math.Log10(qdu)
	g := 1.07 + 0.258*q + 0.0602*q*q
	y := (ro-100)/15 + 46/8.4 - g/9
	z := 46.0/30 - g/40
	quantizing := 15 * math.Log10(1+math.Pow(10, y)+math.Pow(10, z))
	return loud + sidetone + quantizing
}

// root is (1 + x^n)^(1/n).
func root(x, n float64) float64 { return math.Pow(1+math.Pow(x, n), 1/n) }

// listenerEcho is Idle of section 7.3 at a round trip of 0.
func listenerEcho(ro float64) float64 {
	half := (ro - 10.5*(wepl+7)) / 2
	return half + math.Sqrt(half*half+169)
}

// delayed is Idd of section 7.3: too long even without echo.
func delayed(d time.Duration) float64 {
	ta := d.Seconds() * 1000
	if ta <= mt {
		return 0
	}
	x := math.Log2(ta / mt)
	return 25 * (root(x, 6*st) - 3*root(x/3, 6*st) + 2)
}

// equipment is Ie-eff of section 7.4; the Ppl there is in per cent.
func equipment(in Input) float64 {
	ppl := 100 * min(max(in.Loss, 0), 1)
	if ppl == 0 {
		return in.Codec.Ie
	}
	return in.Codec.Ie + (95-in.Codec.Ie)*ppl/(ppl/max(in.BurstR, 1)+in.Codec.Bpl)
}

// MOS is the mean opinion score in conversation, 1 (bad) to 4.5, that R stands for
// (G.107 annex B).
func MOS(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	// Below R 6.5 the cubic dips under 1.
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
