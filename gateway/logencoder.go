package gateway

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

func init() {
	caddy.RegisterModule(LogEncoder{})
}

// LogEncoder masks secrets and tax ids in everything that is logged through it:
// CPF and CNPJ, bearer tokens, JWTs, sealed link tokens, the parameter `v` of a
// `linkURL`, and the values of keys, headers and query parameters such as
// `linkToken`, `secret_key`, `personalTaxId`, `X-Cpf` or `Cookie`, whatever these
// look like. All of it is found also where it is percent-encoded, escaped, or JSON
// in a string of JSON.
//
// It works on whole lines, after another encoder has written them, and so
// covers every field, message, error and stack trace, whichever module wrote
// it. Handlers cannot do that: Caddy logs the URI of a request as it came in.
//
// A masked value reads `***`; in JSON, a tax id that is written as a number
// becomes `0`. A number of 11 or 14 digits without quotation marks around it, or
// with letters beside it, and groups with unusual separators (`529 982 247 25`)
// are only taken for a tax id if the check digits fit, which is true of one in a
// hundred.
//
// It does not see what is base64, compressed or encrypted, 11 digits in a longer
// run of digits, or a secret that has neither a known form nor a known name, such
// as a cookie that is logged under a name of your own. Names, e-mail addresses
// and phone numbers are not masked.
type LogEncoder struct {
	// The encoder that writes the lines. Left out, it is "json", or "console"
	// if the log goes to a terminal.
	WrappedRaw json.RawMessage `json:"wrap,omitempty" caddy:"namespace=caddy.logging.encoders inline_key=format"`

	zapcore.Encoder `json:"-"` // the one that WrappedRaw stands for

	isDefault bool
	ctx       caddy.Context
}

// CaddyModule returns the Caddy module information.
func (LogEncoder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.logging.encoders.klavi",
		New: func() caddy.Module { return new(LogEncoder) },
	}
}

// Provision loads the encoder that writes the lines.
func (e *LogEncoder) Provision(ctx caddy.Context) error {
	e.ctx = ctx
	if e.WrappedRaw == nil {
		e.isDefault = true
		return e.wrapDefault(new(logging.JSONEncoder))
	}
	mod, err := ctx.LoadModule(e, "WrappedRaw")
	if err != nil {
		return fmt.Errorf("loading wrapped log encoder: %w", err)
	}
	e.Encoder = mod.(zapcore.Encoder)
	return nil
}

// ConfigureDefaultFormat chooses "console" if nothing is said about the format
// and the log goes to a terminal, as Caddy does without this encoder.
func (e *LogEncoder) ConfigureDefaultFormat(wo caddy.WriterOpener) error {
	if !e.isDefault {
		if wrapped, ok := e.Encoder.(caddy.ConfiguresFormatterDefault); ok {
			return wrapped.ConfigureDefaultFormat(wo)
		}
		return nil
	}
	if caddy.IsWriterStandardStream(wo) && term.IsTerminal(int(os.Stderr.Fd())) {
		return e.wrapDefault(new(logging.ConsoleEncoder))
	}
	return nil
}

func (e *LogEncoder) wrapDefault(enc interface {
	zapcore.Encoder
	caddy.Provisioner
},
) error {
	if err := enc.Provision(e.ctx); err != nil {
		return fmt.Errorf("provisioning default log encoder: %w", err)
	}
	e.Encoder = enc
	return nil
}

// Clone returns an encoder with the same fields, to which others can be added.
func (e *LogEncoder) Clone() zapcore.Encoder {
	return masking{e.Encoder}.Clone()
}

// EncodeEntry lets the wrapped encoder write the line and masks it.
func (e *LogEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	return masking{e.Encoder}.EncodeEntry(entry, fields)
}

// masking is an encoder whose lines are masked. Loggers clone theirs for every
// request, so it holds no more than it needs.
type masking struct{ zapcore.Encoder }

func (e masking) Clone() zapcore.Encoder {
	return masking{e.Encoder.Clone()}
}

func (e masking) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	masked := maskToBuffer(line.Bytes())
	if masked == nil {
		return line, nil
	}
	line.Free()
	return masked, nil
}

// UnmarshalCaddyfile sets up the encoder from Caddyfile tokens. Syntax:
//
//	format klavi {
//	    wrap <encoder> [{ <options of that encoder> }]
//	}
//
// The block can be left out; see [LogEncoder.WrappedRaw] for what is wrapped
// then.
func (e *LogEncoder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of this encoder
	if d.NextArg() {
		return d.Errf("the log encoder klavi takes no argument but a block; write { wrap %s }", d.Val())
	}
	for d.NextBlock(0) {
		if d.Val() != "wrap" {
			return d.Errf("unrecognized option %q of the log encoder klavi; it has one: wrap <encoder>", d.Val())
		}
		if e.WrappedRaw != nil {
			return d.Err("the log encoder klavi wraps one encoder, but wrap is given twice")
		}
		if !d.NextArg() {
			return d.Err("wrap needs the name of an encoder, such as json or console")
		}
		name := d.Val()
		id := "caddy.logging.encoders." + name
		mod, err := caddyfile.UnmarshalModule(d, id)
		if err != nil {
			return err
		}
		enc, ok := mod.(zapcore.Encoder)
		if !ok {
			return d.Errf("module %s (%T) is not a log encoder", id, mod)
		}
		e.WrappedRaw = caddyconfig.JSONModuleObject(enc, "format", name, nil)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module                     = (*LogEncoder)(nil)
	_ caddy.Provisioner                = (*LogEncoder)(nil)
	_ caddy.ConfiguresFormatterDefault = (*LogEncoder)(nil)
	_ caddyfile.Unmarshaler            = (*LogEncoder)(nil)
	_ zapcore.Encoder                  = (*LogEncoder)(nil)
)
