package integration

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// report sends a report or events as Klavi does, signed.
func (g *gateway) report(body string) answer {
	g.t.Helper()
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(body))
	return g.do("POST", g.url("hooks", "/klavi/reports"), body, "X-Klavi-Signature", hex.EncodeToString(mac.Sum(nil)))
}

// delivery is one that the sandbox made.
type delivery struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	SHA256    string `json:"sha256"`
	Done      bool   `json:"done"`
	Delivered bool   `json:"delivered"`
}

// delivered waits until the last n deliveries are over, and fails the test if
// one of them was not answered 200.
func (g *gateway) delivered(n int) []delivery {
	g.t.Helper()
	var list []delivery
	g.eventually("the deliveries to end", func() bool {
		list = nil
		text := g.do("GET", g.url("klavi", "/_sandbox/deliveries"), "").body
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			g.t.Fatalf("%v in %.300s", err, text)
		}
		if len(list) < n {
			return false
		}
		list = list[len(list)-n:]
		for _, d := range list {
			if !d.Done {
				return false
			}
		}
		return true
	})
	for _, d := range list {
		if !d.Delivered {
			g.t.Errorf("%s %s was given up", d.Kind, d.Name)
		}
	}
	return list
}
