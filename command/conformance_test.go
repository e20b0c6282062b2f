package command

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// klavi runs `caddy klavi` and returns its exit code and what it printed.
func klavi(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := &cobra.Command{Use: "caddy", SilenceErrors: true}
	cmd := &cobra.Command{Use: "klavi"}
	caddycmd.Commands()["klavi"].CobraFunc(cmd)
	root.AddCommand(cmd)
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"klavi"}, args...))
	err := root.Execute()
	if err == nil {
		return 0, out.String(), errs.String()
	}
	// What Caddy's main does with it. Its type is not exported.
	if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct && v.FieldByName("ExitCode").IsValid() {
		return int(v.FieldByName("ExitCode").Int()), out.String(), errs.String()
	}
	return 1, out.String(), errs.String()
}

const (
	goodToken = "KLT1TheLinkTokenOfThisTest"
	session   = "session=hunter2"
)

// site answers the control entries, if they come with the login, and one other
// status to the rest.
func site(t *testing.T, rest int) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		switch {
		case r.Header.Get("Cookie") != session || r.Header.Get("Authorization") != "Bearer "+goodToken:
			w.WriteHeader(http.StatusUnauthorized)
		case path == "/klavi/institutions" && r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "[]")
		default:
			w.WriteHeader(rest)
			io.WriteString(w, goodToken+session)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	return server
}

func wantNoSecrets(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if i := strings.Index(text, "hunter2"); i >= 0 {
			t.Errorf("the header's value is shown: %.200s", text[i:])
		}
		if i := strings.Index(strings.ToLower(text), strings.ToLower(goodToken)); i >= 0 {
			t.Errorf("the link token is shown: %.200s", text[i:])
		}
	}
}

func TestWrongFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	target, token := "--target=http://127.0.0.1:1/klavi", "--link-token="+goodToken
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "--target and --link-token are needed"},
		{[]string{target}, "--target and --link-token are needed"},
		{[]string{token}, "--target and --link-token are needed"},
		{[]string{target, "--link-token"}, "--link-token needs a value"},
		{[]string{target, "--link-token=hunter2 hunter2"}, "--link-token: it must be"},
		{[]string{"--target=http://me:hunter2@localhost/klavi", token}, "--target: it must have no user"},
		{[]string{"--target=https://localhost", token}, "--target: its path must be the prefix"},
		{[]string{target, token, "--header=Cookie"}, "--header: it must be written"},
		{[]string{target, token, "--header=Authorization: hunter2"}, "--header: Authorization cannot be given"},
		{[]string{target, token, "--ca=/no/such/file"}, "--ca: open /no/such/file"},
		{[]string{target, token, "--ca=" + file}, "it holds no certificate"},
		{[]string{target, goodToken}, "values without a flag"},
		{[]string{target, "-link-token=" + goodToken}, "two dashes"},
		{[]string{target, "--token=" + goodToken}, "there is no flag --token"},
		{[]string{target, "--json=" + goodToken}, "--json does not take this value"},
		{[]string{target, token}, "connection refused"},
	} {
		code, stdout, stderr := klavi(t, append([]string{"conformance"}, test.args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: got %d, %q and %q, want %d, nothing, and one line with %q", test.args, code, stdout, stderr, exitUsage, test.want)
		}
		wantNoSecrets(t, stderr)
	}
}

func TestNoSuchCommand(t *testing.T) {
	if code, _, stderr := klavi(t, goodToken); code != exitUsage || !strings.Contains(stderr, "no such command") {
		t.Errorf("got %d and %q, want %d", code, stderr, exitUsage)
	}
	code, stdout, stderr := klavi(t)
	if code != exitOK || !strings.Contains(stdout, "conformance") {
		t.Errorf("got %d and %q, want the list of commands", code, stdout)
	}
	wantNoSecrets(t, stdout, stderr)
}

func TestTable(t *testing.T) {
	server := site(t, http.StatusNotFound)
	server.Start()
	t.Cleanup(server.Close)
	args := []string{"conformance", "--target", server.URL + "/klavi", "--link-token", goodToken}

	code, stdout, stderr := klavi(t, args...)
	if code != exitUsage || stdout != "" || !strings.Contains(stderr, "401") || !strings.Contains(stderr, "--header") {
		t.Errorf("without the login: got %d, %q and %q, want %d and what to do", code, stdout, stderr, exitUsage)
	}

	// The site ignores origins and bodies, so that some lines fail.
	code, stdout, stderr = klavi(t, append(args, "--header", "Cookie: "+session)...)
	wantNoSecrets(t, stdout, stderr)
	if code != exitFailed || !strings.Contains(stderr, " lines, ") {
		t.Errorf("got %d and %q, want %d and the progress", code, stderr, exitFailed)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(stdout) {
		id, rest, _ := strings.Cut(line, " ")
		rows[id] = strings.Join(strings.Fields(rest), " ")
	}
	for id, want := range map[string]string{
		"ID":   "CATEGORY WHAT WANT GOT VERDICT NOTE",
		"A1":   "control GET institutions allow 200 application/json ok",
		"A2":   "control POST consents allow skipped it may create a consent: --create-consents sends it",
		"P01":  "path trailing slash reject 404 text/plain ok",
		"XO01": "origin Origin null reject 200 application/json FAIL it was served",
		"XT18": "token in a cookie reject skipped it has a Cookie of its own, beside that of --header",
	} {
		if got := rows[id]; !strings.HasPrefix(got, want) {
			t.Errorf("got the row %s %q, want %q", id, got, want)
		}
	}
	if !strings.Contains(rows["FAIL:"], "XO01 ") || !strings.Contains(rows["skipped:"], "A2 ") || !strings.Contains(stdout, " failed, ") {
		t.Errorf("got %s, want a summary with the lines that failed and were skipped", stdout[max(0, len(stdout)-500):])
	}
}

func TestCA(t *testing.T) {
	server := site(t, http.StatusNotFound)
	server.StartTLS()
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"conformance", "--target", server.URL + "/klavi", "--link-token", goodToken}
	if code, stdout, stderr := klavi(t, args...); code != exitUsage || stdout != "" || !strings.Contains(stderr, "--ca") {
		t.Errorf("got %d, %q and %q, want %d and what helps", code, stdout, stderr, exitUsage)
	}
	// With it, the site is reached, and wants a login.
	if code, _, stderr := klavi(t, append(args, "--ca", file)...); code != exitUsage || !strings.Contains(stderr, "answered with 401") {
		t.Errorf("got %d and %q, want %d and the answer", code, stderr, exitUsage)
	}
}

func TestPrintJSON(t *testing.T) {
	server := site(t, http.StatusForbidden)
	server.Start()
	t.Cleanup(server.Close)
	code, stdout, stderr := klavi(t, "conformance", "--json", "--target", server.URL+"/klavi", "--link-token", goodToken, "--header", "Cookie: "+session)
	wantNoSecrets(t, stdout, stderr)
	var got struct {
		Target              string
		OK, Failed, Skipped int
		Lines               []struct {
			ID, Category, What, Want, Verdict, Note string
			Got                                     []struct {
				Status    int
				MediaType string `json:"media_type"`
			}
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in %.300s", err, stdout)
	}
	if code != exitFailed || got.Target != server.URL+"/klavi" || got.OK == 0 || got.Failed == 0 || got.Skipped == 0 ||
		len(got.Lines) != got.OK+got.Failed+got.Skipped {
		t.Errorf("got %d, and %d, %d, %d of %d lines for %s", code, got.OK, got.Failed, got.Skipped, len(got.Lines), got.Target)
	}
	for _, l := range got.Lines {
		if l.ID == "A1" && (l.Verdict != "ok" || l.Category != "control" || l.What == "" || l.Want != "allow" || len(l.Got) != 1 ||
			l.Got[0].Status != 200 || l.Got[0].MediaType != "application/json") {
			t.Errorf("got %+v, want the control entry as it was", l)
		}
	}
}
