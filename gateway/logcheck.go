package gateway

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// DefaultLogMasks reports whether lines of Caddy's default logger are masked,
// whatever other encoders are around the encoder `klavi` or in it. Without it,
// Caddy's own lines show tax ids that stand in URIs. Nothing is logged to find out.
func DefaultLogMasks() bool {
	var probe encoderProbe
	caddy.Log().Core().With([]zapcore.Field{zap.Inline(&probe)})
	return probe.masks
}

// encoderProbe is a field that has the encoder it is added to write a line.
type encoderProbe struct{ masks bool }

// MarshalLogObject adds nothing.
func (p *encoderProbe) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	const taxID = "52998224725" // made up
	encoder, ok := enc.(zapcore.Encoder)
	if !ok {
		return nil
	}
	line, err := encoder.EncodeEntry(zapcore.Entry{Message: "probe"}, []zapcore.Field{zap.String("probe", taxID)})
	if err != nil {
		return nil //nolint:nilerr // then it is not known to mask
	}
	defer line.Free()
	p.masks = !strings.Contains(line.String(), taxID)
	return nil
}
