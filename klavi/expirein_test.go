package klavi

import (
	jsonv1 "encoding/json"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

func TestExpireIn(t *testing.T) {
	const standard = 1800 * time.Second
	tests := []struct {
		body string
		want time.Duration
	}{
		{`{"expireIn":1800}`, standard},
		{`{"expireIn":900}`, 900 * time.Second},
		{`{"expireIn":"900"}`, 900 * time.Second},
		{`{"expireIn":" 900 "}`, 900 * time.Second},
		{`{"expireIn":900.5}`, 900*time.Second + 500*time.Millisecond},
		{`{"expireIn":"9e2"}`, 900 * time.Second},
		{`{"expireIn":86400}`, 24 * time.Hour},
		{`{"expireIn":86401}`, standard},
		{`{"expireIn":1e400}`, standard},
		{`{"expireIn":"Inf"}`, standard},
		{`{"expireIn":"NaN"}`, standard},
		{`{"expireIn":0}`, standard},
		{`{"expireIn":-5}`, standard},
		{`{"expireIn":1e-12}`, standard},
		{`{"expireIn":""}`, standard},
		{`{"expireIn":"soon"}`, standard},
		{`{"expireIn":null}`, standard},
		{`{"expireIn":true}`, standard},
		{`{"expireIn":[900]}`, standard},
		{`{"expireIn":{"seconds":900}}`, standard},
		{`{}`, standard},
	}
	for _, test := range tests {
		for name, unmarshal := range map[string]func([]byte, any) error{
			"v2": func(b []byte, v any) error { return json.Unmarshal(b, v) },
			"v1": jsonv1.Unmarshal,
		} {
			var answer struct {
				ExpireIn ExpireIn `json:"expireIn"`
			}
			if err := unmarshal([]byte(test.body), &answer); err != nil {
				t.Errorf("%s, %s: %v", name, test.body, err)
				continue
			}
			if got := answer.ExpireIn.Duration(); got != test.want {
				t.Errorf("%s, %s: got %v, want %v", name, test.body, got, test.want)
			}
		}
	}
}
