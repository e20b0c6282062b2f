package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// find returns where a program is. Without it, the test is left out.
func find(t *testing.T, name string, elsewhere ...string) string {
	t.Helper()
	for _, path := range append([]string{name}, elsewhere...) {
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	t.Skip("no " + name + " on this machine: it was not tried as a client")
	return ""
}

// run returns what a program writes.
func run(t *testing.T, stdin, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %.1000q: %v\n%s", path, args, err, complaints.String())
	}
	return out.String()
}

// script has one of the scripts in testdata/clients walk.
func (g *clientsGateway) script(interpreter, file string) program {
	return program{streams: true, low: file != "fetch.mjs", ask: func(t *testing.T, base string, steps []walkStep) []answer {
		t.Helper()
		path := find(t, interpreter)
		t.Setenv("NODE_EXTRA_CA_CERTS", g.root())
		t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
		plan, err := json.Marshal(map[string]any{"base": base, "ca": g.root(), "steps": steps})
		if err != nil {
			t.Fatal(err)
		}
		return readAnswers(t, []byte(run(t, string(plan), path, "testdata/clients/"+file)))
	}}
}

func readAnswers(t *testing.T, text []byte) []answer {
	t.Helper()
	var list []struct {
		Status int
		Body   string
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	answers := make([]answer, len(list))
	for i, a := range list {
		answers[i] = answer{status: a.Status, body: a.Body}
	}
	return answers
}

var linkToken = regexp.MustCompile(`"linkToken":"([^"]+)"`)

// inTurn takes the steps one after the other, with the tokens in place.
func inTurn(steps []walkStep, ask func(walkStep) answer) []answer {
	var token string
	answers := make([]answer, len(steps))
	for i, s := range steps {
		headers := make(map[string]string, len(s.Headers))
		for name, value := range s.Headers {
			headers[name] = strings.ReplaceAll(value, "{token}", token)
		}
		s.Headers = headers
		answers[i] = ask(s)
		if found := linkToken.FindStringSubmatch(answers[i].body); found != nil {
			token = found[1]
		}
	}
	return answers
}

// curl asks with a curl of its own for each step. version is that of HTTP which is
// expected to be spoken.
func (g *clientsGateway) curl(version string, options ...string) program {
	return program{streams: version != "1", low: true, ask: func(t *testing.T, base string, steps []walkStep) []answer {
		t.Helper()
		path := find(t, "curl")
		if version == "3" && !strings.Contains(run(t, "", path, "--version"), "HTTP3") {
			t.Skip("this curl does not speak HTTP/3: it was not tried with that")
		}
		return inTurn(steps, func(s walkStep) answer {
			args := append([]string{"-sS", "--cacert", g.root(), "-w", "\n%{http_version} %{http_code} %header{content-encoding}"}, options...)
			for name, value := range s.Headers {
				args = append(args, "-H", name+": "+value)
			}
			var body string
			if s.Body != nil {
				body = *s.Body
				args = append(args, "--data-binary", "@-")
			}
			if s.Stream {
				args = slices.Replace(args, len(args)-2, len(args), "-T", "-")
			}
			if s.Stream || s.Body == nil && s.Method != http.MethodGet || s.Method == http.MethodDelete {
				args = append(args, "-X", s.Method)
			}
			out := run(t, body, path, append(args, base+s.Path)...)
			i := strings.LastIndexByte(out, '\n')
			of := strings.Split(out[i+1:], " ")
			if of[0] != version {
				t.Fatalf("curl spoke HTTP/%s, want HTTP/%s", of[0], version)
			}
			asked := slices.Contains(options, "--compressed")
			if !asked && of[2] != "" || asked && of[2] == "" && strings.HasPrefix(s.Name, "the institutions") {
				t.Errorf("%s: got the content encoding %q, asked for one: %v", s.Name, of[2], asked)
			}
			return answer{status: number(t, of[1]), body: out[:i]}
		})
	}}
}

func number(t *testing.T, text string) (n int) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatalf("%q is not a number", text)
	}
	return n
}

// What a client in Go may speak.
var (
	overHTTP1 = (*http.Protocols).SetHTTP1
	overHTTP2 = (*http.Protocols).SetHTTP2
	overH2C   = (*http.Protocols).SetUnencryptedHTTP2
)

// goClient asks with net/http, which waits to be told to go on where it says Expect.
func (g *clientsGateway) goClient(proto string, speak func(*http.Protocols, bool)) program {
	return program{streams: true, low: true, ask: func(t *testing.T, base string, steps []walkStep) []answer {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: g.trusting(t), Protocols: new(http.Protocols), ExpectContinueTimeout: 10 * time.Second}
		speak(transport.Protocols, true)
		defer transport.CloseIdleConnections()
		return inTurn(steps, func(s walkStep) answer {
			goOn := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { goOn = true }})
			var body io.Reader
			if s.Body != nil {
				body = strings.NewReader(*s.Body)
			}
			if s.Stream {
				body = io.MultiReader(body) // whose length net/http does not know
			}
			req, err := http.NewRequestWithContext(ctx, s.Method, base+s.Path, body)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range s.Headers {
				req.Header.Set(name, value)
			}
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", s.Name, err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil || res.Proto != proto {
				t.Fatalf("%s: got %v over %s, want an answer over %s", s.Name, err, res.Proto, proto)
			}
			if expects := s.Headers["Expect"] != ""; expects != goOn {
				t.Errorf("%s: got 100 Continue: %v, want %v", s.Name, goOn, expects)
			}
			return answer{res.StatusCode, res.Header, string(text)}
		})
	}}
}

// startNginx runs one until the test ends.
func (g *clientsGateway) startNginx(t *testing.T) {
	t.Helper()
	path := find(t, "nginx", "/usr/sbin/nginx") // which is not everybody's path
	dir := t.TempDir()
	config := dir + "/nginx.conf"
	if err := os.WriteFile(config, []byte(g.expand(readFile(t, "testdata/clients/nginx.conf"))), 0o600); err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	nginx := exec.Command(path, "-e", "stderr", "-p", dir, "-c", config)
	nginx.Stderr = &complaints
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nginx.Process.Kill()
		_ = nginx.Wait()
		if t.Failed() && complaints.Len() > 0 {
			t.Log(complaints.String())
		}
	})
	g.eventually("nginx to answer", func() bool {
		_, err := try("GET", g.url("nginx", "/"), "")
		return err == nil
	})
}
