package klavi

import (
	"encoding/json"
	"maps"
	"net"
	"net/url"
	"strings"
	"testing"
)

// callbackBodies are objects in which two readers could see two addresses.
var callbackBodies = []string{
	`{"all":"https://a.example/x"}`, `{"pf_loans":"https://a.example/","other":"https://b.example/"}`,
	`{"all":"https://a.example/x","other":"https://a.example/x"}`, `{"all":"http://[::1]/"}`, `{"all":"https://u@h/#f"}`, `{}`, `null`, `{"a":{}}`,
	`{"all":"https://a.example/","all":"https://evil.example/"}`, `{"all":"https://a.example/","ALL":"https://evil.example/"}`,
	`{"all":"https://a.example/","\u0061ll":"https://evil.example/"}`, `{"pf_loans":"https://a.example/","PF_LOANS":"https://evil.example/"}`,
	`{"pf_loans":"https://a.example/","pf_loan` + "\u017f" + `":"https://evil.example/"}`, `{"other":"https://a.example/","other ":"https://evil.example/"}`,
	`{"all":["https://a.example/"]}`, `{"all":{"0":"https://a.example/"}}`, `{"all":null}`, `{"all":""}`, `{"other":"https://a.example/","__proto__":{"all":"https://evil.example/"}}`,
	`{"all":"https://a.example\\@evil.example/"}`, `{"all":"https://a.example\u0000.evil.example/"}`, `{"all":"https://a.example%2eevil.example/"}`,
	`{"all":"https://a.example:443@evil.example/"}`, `{"all":"https:evil.example"}`, `{"all":"//evil.example"}`, `{"all":"https:///evil.example"}`,
	`{"all":"HTTPS://A.EXAMPLE/"}`, `{"all":"https://a.example:0/"}`, `{"all":"https://a.example:99999/"}`, `{"all":"https://a.example/\u2028"}`, `{"all":"https://ä.example/"}`,
	`{"all":"https://a.example/` + "\xff" + `"}`, `{"all":"https://a.example/\ud800"}`, `{"all":"http://127.1/"}`, `{"all":"http://localhost.evil.example/"}`,
	`{"all":"http://[::ffff:127.0.0.1]/"}`, `{"all":"http://2130706433/"}`, `{"all":"https://a.example/"} x`, `[{"all":"https://a.example/"}]`,
}

func TestCallbackURLIsWhatOthersRead(t *testing.T) {
	taken := 0
	for _, body := range callbackBodies {
		if checkCallbackReading(t, []byte(body)) {
			taken++
		}
		if _, err := ParseCallbackURL([]byte(body)); err != nil && strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: the error shows an address: %v", body, err)
		}
	}
	if taken < 5 {
		t.Errorf("got %d bodies taken, want some: nothing was compared", taken)
	}
}

// FuzzParseCallbackURL looks for an object that sends reports elsewhere than was
// understood.
func FuzzParseCallbackURL(f *testing.F) {
	for _, body := range callbackBodies {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkCallbackReading(t, data) })
}

func checkCallbackReading(t *testing.T, data []byte) (taken bool) {
	t.Helper()
	c, err := ParseCallbackURL(data)
	if err != nil {
		return false
	}
	if c.IsZero() || !c.Within(c) || c.all != "" && (c.other != "" || len(c.specific) > 0) {
		t.Fatalf("%q: got none of Klavi's forms: %+v", data, c)
	}

	// What others make of it, whether or not case matters.
	var sent map[string]string
	if err := json.Unmarshal(data, &sent); err != nil {
		t.Fatalf("%q was taken, but encoding/json says: %v", data, err)
	}
	understood := maps.Clone(c.specific)
	if understood == nil {
		understood = make(map[string]string)
	}
	for word, address := range map[string]string{"all": c.all, "other": c.other} {
		if address != "" {
			understood[word] = address
		}
	}
	if !maps.Equal(sent, understood) {
		t.Errorf("%q: got %v, others read %v", data, understood, sent)
	}
	folded := make(map[string]bool)
	for name := range sent {
		if folded[strings.ToLower(name)] || strings.ToLower(name) != name {
			t.Errorf("%q: the name %q could be another if case does not matter", data, name)
		}
		folded[strings.ToLower(name)] = true
	}
	for _, address := range c.URLs() {
		u, err := url.Parse(address)
		if err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "" || u.Hostname() == "" || strings.ContainsAny(address, "\\ \t\r\n") {
			t.Errorf("%q: got the address %q, which may be read in two ways", data, address)
			continue
		}
		host, _, _ := strings.Cut(u.Hostname(), "%")
		if loopback := net.ParseIP(host).IsLoopback() || strings.EqualFold(host, "localhost"); u.Scheme != "https" && !loopback {
			t.Errorf("%q: got the address %q, which is neither https nor on loopback", data, address)
		}
	}

	text, err := c.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseCallbackURL(text)
	if err != nil || again.all != c.all || again.other != c.other || !maps.Equal(again.specific, c.specific) {
		t.Fatalf("%q became %s, which reads as %+v, %v", data, text, again, err)
	}
	return true
}
