package main

import (
	"io"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// What is weighed must be a report, or the gateway would not route it.
func TestReport(t *testing.T) {
	r := newReport(7)
	body, err := io.ReadAll(r.reader())
	if err != nil || int64(len(body)) != r.size() {
		t.Fatalf("got %d bytes and error %v, want %d", len(body), err, r.size())
	}
	if off := r.size() - reportSize; off < -int64(len(reportMiddle)) || off > int64(len(reportMiddle)) {
		t.Errorf("got a report of %d bytes, want about %d", r.size(), reportSize)
	}
	signature, err := r.signature()
	if want := klavi.Sign([]byte(secretKey), body); err != nil || signature != want {
		t.Errorf("got signature %s and error %v, want %s", signature, err, want)
	}
	envelope, err := klavi.ReadEnvelope(r.reader())
	if err != nil || envelope.Report == nil || envelope.Report.Type != "pf_categorized_checking_l3" {
		t.Errorf("got %+v and error %v, want a report", envelope, err)
	}
}
