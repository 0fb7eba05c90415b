//go:build opus

package e2e

import "github.com/hraban/opus"

func init() {
	newDecoder = func() (decoder, error) {
		d, err := opus.NewDecoder(sampleRate, 1)
		if err != nil {
			return nil, err
		}
		pcm := make([]int16, sampleRate*60/1000)
		return func(packet []byte) ([]int16, error) {
			n, err := d.Decode(packet, pcm)
			return pcm[:n], err
		}, nil
	}
}
