// Package opus gives talkers their Opus frames and listeners their ears.
//
// With the build tag opus (and nolibopusfile) speech is generated, encoded and
// decoded with libopus. Without it talkers loop frames that were encoded so
// beforehand and lie in testdata, and nobody decodes: listeners know frames by
// their bytes. Either way a frame is known by its bytes; see [Track.Index].
//
//	go run -tags opus,nolibopusfile ./bench/internal/opus/encode
//
// makes testdata again.
package opus

//go:generate go run -tags opus,nolibopusfile ./encode
