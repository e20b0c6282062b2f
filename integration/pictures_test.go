package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

var takePictures = flag.Bool("pictures", false, "take the pictures in docs/pictures, with Chromium")

// maxPicture bounds what somebody loads who reads the README.
const maxPicture = 300_000

// Pictures of the page show it as it is: docs/pictures/source.txt says of which
// files they were taken.
func TestPictures(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, "docs", "pictures", "source.txt")
	sum := digest(t, root, "examples/quickstart/site", "sandbox/pages", "sandbox/pages_text.go")
	if !*takePictures {
		if got := readFile(t, source); got != sum+"\n" {
			t.Errorf("the pictures are out of date: run go test ./integration -run Pictures -pictures")
		}
		return
	}
	b := newBrowser(t, openChromium(t))
	b.deskPictures(t, filepath.Dir(source))
	b.phonePictures(t, filepath.Dir(source))
	if t.Failed() {
		return
	}
	if err := os.WriteFile(source, []byte(sum+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// digest is one over the names and contents of these files, and of all below
// these folders.
func digest(t *testing.T, root string, names ...string) string {
	t.Helper()
	h := sha256.New()
	for _, name := range names {
		err := fs.WalkDir(os.DirFS(root), name, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text := readFile(t, filepath.Join(root, path))
			fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (b *browser) deskPictures(t *testing.T, dir string) {
	tb := b.tab(t, look{width: 1200, height: 800, scale: 1.5})
	tb.createLink()
	tb.picture(dir, "link.png", "#step-link")

	tb.listInstitutions()
	tb.createConsent()
	tb.click("#go-bank")
	tb.decide(asksBank, agrees)
	tb.untilAt("app", "/")
	for lane := range lanes {
		tb.until(`document.querySelector('#` + lane + ` li.new')`)
	}
	tb.picture(dir, "reports.png", "#step-reports")

	tb.mayBeRefused()
	tb.click("#try-all")
	tb.until(`Array.from(document.querySelectorAll('.answer')).every((e) => e.dataset.verdict)`)
	tb.picture(dir, "break-out.png", "#step-breakout")
}

func (b *browser) phonePictures(t *testing.T, dir string) {
	tb := b.tab(t, look{language: "pt-BR", dark: true, width: 390, height: 844, scale: 2, touch: true})
	tb.createLink()
	tb.picture(dir, "phone.png", "")
	tb.click("#go-hosted")
	tb.decide(chooses)
	tb.untilAt("sandbox", "/bank")
	tb.picture(dir, "phone-bank.png", "")
}

// picture takes one of a step of the page, or of the screen if none is named. The
// first step comes with all that is above it.
func (tb *tab) picture(dir, name, step string) {
	tb.t.Helper()
	clip := eval[page.Viewport](tb, fmt.Sprintf(`(() => {
		document.activeElement.blur();
		document.querySelector('header')?.style.setProperty('position', 'static'); // it would follow
		scrollTo(0, 0);
		const step = document.querySelector(%q || 'body'), { bottom } = step.getBoundingClientRect();
		const top = step.querySelector('h1, h2').getBoundingClientRect().top - 32, y = top < 1000 ? 0 : top;
		return { x: 0, y, width: document.documentElement.clientWidth, height: %t ? bottom + 24 - y : innerHeight, scale: 1 };
	})()`, step, step != ""))
	shot, err := chromedp.Call(tb.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Clip: &clip, CaptureBeyondViewport: new(true)})
	if err != nil {
		tb.t.Fatal(err)
	}
	small := shrink(tb.t, shot.Data)
	if len(small) > maxPicture {
		tb.t.Errorf("%s has %d bytes, want at most %d", name, len(small), maxPicture)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), small, 0o644); err != nil {
		tb.t.Fatal(err)
	}
}

// shrink writes a picture with its 256 most frequent colours, which takes less
// than half of the space. A page without photographs looks the same.
func shrink(t *testing.T, full []byte) []byte {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(full))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[color.Color]int)
	area := picture.Bounds()
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			count[picture.At(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	few := image.NewPaletted(area, colors[:min(256, len(colors))])
	draw.Draw(few, area, picture, area.Min, draw.Src)
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, few); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
