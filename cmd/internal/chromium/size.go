package chromium

import (
	"fmt"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Resize gives the page a window of so many pixels.
func (p *Page) Resize(width, height int64) error {
	_, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	if err != nil {
		return fmt.Errorf("resize to %d by %d: %w", width, height, err)
	}
	return nil
}
