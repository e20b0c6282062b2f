package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// leakyFields is every way of zap's to put a tax id or a secret into a line.
func leakyFields() []zap.Field {
	return []zap.Field{
		zap.String("text", "cpf 529.982.247-25"),
		zap.ByteString("bytes", []byte("52998224725")),
		zap.Error(errors.New("account of 12ABC34501DE35 is closed")),
		zap.Strings("list", []string{"11.222.333/0001-81", "kept"}),
		zap.Any("headers", map[string][]string{"Klavi-Link-Token": {"secret-a"}}),
		zap.Int64("number", 52998224725),
		zap.Dict("nested", zap.String("linkToken", "secret-b"), zap.Int64("cnpj", 11222333000181)),
		zap.Reflect("json", json.RawMessage(`{"url":"/?a\u0026v=secret-c"}`)),
		zap.Duration("took", 1500*time.Millisecond),
		zap.Namespace("inner"),
		zap.String("body", `{"password": "secret-d"}`),
		zap.String("52998224725", "a key"),
	}
}

func provisioned(t *testing.T, config string) *LogEncoder {
	t.Helper()
	enc := new(LogEncoder)
	if err := json.Unmarshal([]byte(config), enc); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := enc.Provision(ctx); err != nil {
		t.Fatalf("provisioning %s: %v", config, err)
	}
	return enc
}

// times are those of log lines: any three digits can be in them.
var times = regexp.MustCompile(`(?m)"ts":[0-9.e+]+|^[0-9/: .]+\t`)

func leaked(text string) string {
	text = times.ReplaceAllString(text, "")
	for _, secret := range []string{"529", "982", "222333", "222.333", "12ABC", "secret-", "Bearer abc"} {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

func TestLogEncoderMasksEveryField(t *testing.T) {
	entry := zapcore.Entry{
		Level: zapcore.DebugLevel, Time: time.Unix(1732281234, 500e6), LoggerName: "http.52998224725",
		Message: "refused 52998224725 with Bearer abc", Stack: "main.f(\"52998224725\")\n\tmain.go:1",
	}
	for name, config := range map[string]string{
		"default": `{}`,
		"json":    `{"wrap":{"format":"json"}}`,
		"console": `{"wrap":{"format":"console"}}`,
		"filter":  `{"wrap":{"format":"filter","wrap":{"format":"json"},"fields":{"gone":{"filter":"delete"}}}}`,
		"append":  `{"wrap":{"format":"append","wrap":{"format":"json"},"fields":{"user":"52998224725"}}}`,
		"itself":  `{"wrap":{"format":"klavi"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			enc := provisioned(t, config)
			with := enc.Clone()
			for _, field := range leakyFields()[:8] {
				field.AddTo(with)
			}
			for range 2 { // a line leaves nothing behind for the next one
				line, err := with.EncodeEntry(entry, leakyFields()[8:])
				if err != nil {
					t.Fatal(err)
				}
				text := line.String()
				line.Free()
				if found := leaked(text); found != "" {
					t.Errorf("got %q in the line %s", found, text)
				}
				if got := strings.Count(text, `"took"`); got != 1 || !strings.Contains(text, "1.5") {
					t.Errorf("got the field took %d times, want it once with 1.5: %s", got, text)
				}
				if name == "console" {
					continue
				}
				var value map[string]any
				if err := json.Unmarshal([]byte(text), &value); err != nil {
					t.Errorf("got invalid JSON %s: %v", text, err)
				}
				if got, want := value["msg"], "refused *** with Bearer ***"; got != want {
					t.Errorf("got the message %q, want %q", got, want)
				}
				if got := value["number"]; got != 0.0 {
					t.Errorf("got number %v, want 0", got)
				}
			}
			line, err := enc.EncodeEntry(entry, nil)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line.String(), "headers") {
				t.Errorf("the fields of a clone came into the line of its original: %s", line)
			}
		})
	}
}

func TestLogEncoderFormatByDefault(t *testing.T) {
	enc := provisioned(t, `{}`)
	if err := enc.ConfigureDefaultFormat(logging.FileWriter{}); err != nil {
		t.Fatal(err)
	}
	if _, ok := enc.Encoder.(*logging.JSONEncoder); !ok {
		t.Errorf("got %T for a file, want *logging.JSONEncoder", enc.Encoder)
	}
	// A wrapped encoder that has a default of its own is asked, too.
	enc = provisioned(t, `{"wrap":{"format":"filter"}}`)
	if err := enc.ConfigureDefaultFormat(caddy.StderrWriter{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := (&LogEncoder{WrappedRaw: json.RawMessage(`{"format":"none"}`)}).Provision(ctx); err == nil {
		t.Error("got no error for an unknown encoder")
	}
}

func TestLogEncoderCaddyfile(t *testing.T) {
	for name, tc := range map[string]struct{ in, want, err string }{
		"no block":      {in: "klavi", want: `{}`},
		"empty block":   {in: "klavi {\n}", want: `{}`},
		"json":          {in: "klavi {\n wrap json\n}", want: `{"wrap":{"format":"json"}}`},
		"with options":  {in: "klavi {\n wrap console {\n  time_format wall\n }\n}", want: `{"wrap":{"format":"console","time_format":"wall"}}`},
		"argument":      {in: "klavi json", err: "takes no argument but a block; write { wrap json }, at Testfile:1"},
		"no name":       {in: "klavi {\n wrap\n}", err: "wrap needs the name of an encoder, such as json or console, at Testfile:2"},
		"twice":         {in: "klavi {\n wrap json\n wrap console\n}", err: "wrap is given twice, at Testfile:3"},
		"unknown":       {in: "klavi {\n fields\n}", err: `unrecognized option "fields" of the log encoder klavi; it has one: wrap <encoder>, at Testfile:2`},
		"not a module":  {in: "klavi {\n wrap nope\n}", err: "module not registered: caddy.logging.encoders.nope"},
		"not the right": {in: "klavi {\n wrap filter.delete\n}", err: "is not a log encoder"},
	} {
		t.Run(name, func(t *testing.T) {
			enc := new(LogEncoder)
			err := enc.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tc.in))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(enc)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func readLog(t *testing.T, path string) string {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// TestLogEncoderInCaddy runs Caddy with a log of this format.
func TestLogEncoderInCaddy(t *testing.T) {
	path := loadLog(t, "format klavi {\nwrap json\n}")
	caddy.Log().Named("test").With(leakyFields()[:8]...).Debug("for 52998224725", leakyFields()[8:]...)
	log := readLog(t, path)
	if found := leaked(log); found != "" {
		t.Errorf("got %q in the log %s", found, log)
	}
	if !strings.Contains(log, `"msg":"for ***"`) {
		t.Errorf("the line is not in the log: %s", log)
	}
	for line := range strings.Lines(log) {
		if !json.Valid([]byte(line)) {
			t.Errorf("got invalid JSON %s", line)
		}
	}
}
