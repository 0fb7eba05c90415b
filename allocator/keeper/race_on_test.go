//go:build race

package keeper

const raceDetector = true
