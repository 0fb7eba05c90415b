//go:build !race

package ear

const raceDetector = false
