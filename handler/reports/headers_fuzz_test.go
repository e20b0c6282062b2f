package reports

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// bodiesForHeaders are bodies whose ids would make odd headers.
var bodiesForHeaders = []string{
	`{"productName":"pf_loans","productReportId":"r-1","code":204,"requestId":"q-1","links":[{"linkId":"l-1","consents":[{"consentId":"c-1"},{"consentId":"c-2"}]}]}`,
	`{"productName":"pf_loans","productReportId":"a\r\nKlavi-Account: other"}`, `{"productName":"pf_loans","productReportId":"a,b","requestId":"a b"}`, `{"productName":"pf_loans","productReportId":"a b"}`,
	`{"productName":","}`, `{"productName":"pf_loans\n"}`, `{"productName":"pf_loans","productReportId":"\u0000"}`, `{"productName":"pf_loans","productReportId":"é"}`,
	`{"productName":"pf_loans","code":-1,"links":[{"linkId":"a,b"},{"linkId":"\\\"~!"}]}`, `{"productName":"pf_loans","requestId":"` + strings.Repeat("q", 256) + `"}`,
	`[{"eventName":"link_created","eventId":"e-1","payload":{"linkId":"l-1"}},{"eventName":"a,b","eventID":"e,2"},{"eventName":"link_created","eventId":"e-1"}]`,
	`{"eventName":"x","eventId":"\ud800"}`, `{"eventName":"x","payload":{"consents":[` + strings.Repeat(`{"consentId":"`+strings.Repeat("c", 200)+`"},`, 20) + `{}]}}`,
	`{"productName":"a","productName":"b"}`, `{"productName":"a","ProductName":"b"}`, "{\"productName\":\"a\xff\"}",
}

func TestHeadersOfOddBodies(t *testing.T) {
	taken := 0
	for _, body := range bodiesForHeaders {
		if checkHeaders(t, []byte(body)) {
			taken++
		}
	}
	if taken < 7 {
		t.Errorf("got %d bodies taken, want some: nothing was compared", taken)
	}
}

// FuzzHeaders looks for a body of which the headers say something else than the
// body itself, or that makes a header that is none.
func FuzzHeaders(f *testing.F) {
	for _, body := range bodiesForHeaders {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkHeaders(t, data) })
}

func checkHeaders(t *testing.T, data []byte) (taken bool) {
	t.Helper()
	b := &body{data: bytes.Clone(data), size: int64(len(data))}
	envelope, err := b.envelope()
	sent := sender{ContentType: "application/json", UserAgent: "klavi/1.0", Signature: "sig", Timestamp: "1740716924"}
	head, reason, failed := readHead(envelope, err, sent, b.sha256, time.Unix(1_800_000_000, 0))
	if failed != nil || (reason == "") != (err == nil && (envelope.Report != nil || len(envelope.Events) > 0)) {
		t.Fatalf("%q: got reason %q, error %v", data, reason, failed)
	}
	if !bytes.Equal(b.data, data) {
		t.Fatalf("%q became %q while it was read", data, b.data)
	}
	if err != nil {
		return false
	}
	rep := &report{account: "acme", head: head, sender: sent, size: b.size, sha256: b.sha256, reader: b.reader}
	header := rep.header(1)

	// They are what arrives.
	var wire bytes.Buffer
	wire.WriteString("POST / HTTP/1.1\r\nHost: x\r\n")
	_ = header.Write(&wire)
	wire.WriteString("\r\n")
	arrived, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatalf("%q: the headers %q cannot be read: %v", data, header, err)
	}
	for name, values := range arrived.Header {
		if len(values) != 1 || header[name] == nil || values[0] != header[name][0] || len(values[0]) > maxList {
			t.Errorf("%q: got %s %q, want one of at most %d bytes: %q", data, name, values, maxList, header[name])
		}
	}
	if len(arrived.Header) != len(header) || header.Get("Klavi-Account") != "acme" || header.Get("Klavi-Delivery-Attempt") != "1" {
		t.Errorf("%q: got %q of %q", data, arrived.Header, header)
	}

	// They say what the body says.
	for name, ids := range map[string][]string{"Klavi-Link-Id": head.LinkIDs, "Klavi-Consent-Id": head.ConsentIDs, "Klavi-Event-Id": head.EventIDs} {
		for part := range strings.SplitSeq(header.Get(name), ",") {
			if part != "" && !slices.Contains(ids, part) {
				t.Errorf("%q: got %s %q, of which %q is none: %q", data, name, header.Get(name), part, ids)
			}
		}
	}
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:])
	if envelope.Report == nil {
		if header.Get("Klavi-Report-Type")+header.Get("Klavi-Report-Id")+header.Get("Klavi-Report-Code")+header.Get("Klavi-Request-Id") != "" {
			t.Errorf("%q: got the headers of a report: %q", data, header)
		}
		return true
	}
	var said struct {
		ProductName     string `json:"productName"`
		ProductReportID any    `json:"productReportId"`
		RequestID       any    `json:"requestId"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		t.Fatalf("%q was taken, but encoding/json says: %v", data, err)
	}
	if own, ok := said.ProductReportID.(string); ok && fitsHeader(own) && envelope.Report.ID != "" {
		id = own
	}
	for name, want := range map[string]string{"Klavi-Report-Type": said.ProductName, "Klavi-Report-Id": id, "Idempotency-Key": id} {
		if got := header.Get(name); got != want {
			t.Errorf("%q: got %s %q, want %q", data, name, got, want)
		}
	}
	if got := header.Get("Klavi-Request-Id"); got != "" && any(got) != said.RequestID {
		t.Errorf("%q: got Klavi-Request-Id %q, want %v", data, got, said.RequestID)
	}
	return true
}

// fitsHeader reports whether a text is one of 1 to 256 printable characters of
// ASCII, without spaces.
func fitsHeader(text string) bool {
	return text != "" && len(text) <= 256 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}
