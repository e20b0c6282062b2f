package klavi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// webhookBodies are bodies in which two readers could see two things.
var webhookBodies = []string{
	`{"productName":"pf_loans","productReportId":"1","code":200,"requestId":"r","links":[{"linkId":"l","consents":[{"consentId":"c"}]}]}`,
	`[{"eventId":"1","eventName":"link_created","payload":{"linkId":"l","consents":{"consentId":"c"}}}]`,
	`{"eventName":"x"}`, `[]`, `{}`, `null`, ``, `"productName"`, "\ufeff{}", `{"productName":"x"} {}`, "{\"productName\":\"x\"}\x00", `{"productName":"x"},`,
	`{"productName":"x","data":[{"a":1},{"b"`, "{\"\xff\":\"\xff\"}", `{"a":[[[[[]]]]],"productName":"x"}`, `{"productName":"x",}`, `{'productName':'x'}`,

	// twice, in another case, escaped, late, nested
	`{"productName":"a","productName":"b"}`, `{"productName":"a","PRODUCTNAME":"b"}`, `{"Productname":"b","productName":"a"}`, `{"PRODUCTNAME":"b"}`,
	`{"productName":"a","\u0070roductName":"b"}`, `{"\u0070roduct\u004eame":"a"}`, `{"productName":"a","productName ":"b"}`, `{"productName":"a","productName\u0000":"b"}`,
	`{"productName":"a","eventName":"b","eventID":"1"}`, `{"eventId":"1","eventID":"2","eventName":"x"}`, `{"eventid":"1","eventName":"x"}`,
	`{"productName":"a","lin` + "\u212a" + `s":[{"linkId":"b"}],"links":[{"linkId":"a"}]}`, `{"productName":"a","reque` + "\u017f" + `tId":"b","requestId":"a"}`,
	`{"data":{"productName":"b","eventName":"c"},"productName":"a"}`, `{"data":[{"productName":"b"}]}`, `[[{"eventName":"x"}]]`, `[{"payload":{"eventName":"x"}}]`,
	`[{"eventName":"x"},{"eventName":"x","eventName":"y"}]`, `[{"eventName":"x"},1]`, `[{"eventName":"x","EventName":"y"}]`, `[{"eventName":"x"},{"productName":"x"}]`,

	// ids
	`{"eventName":"x","payload":{"linkId":"a","linkId":"b","linkId":"a"}}`, `{"eventName":"x","payload":{"linkId":"a","linkId":1}}`,
	`{"eventName":"x","payload":[{"linkId":"a"}]}`, `{"eventName":"x","payload":{"consentId":"a","consents":[{"consentId":"b"},{"consentId":"a"}]}}`,
	`{"productName":"x","links":{"linkId":"a","consents":{"consentId":"c"}}}`, `{"productName":"x","links":[{"linkId":"a"},{"LINKID":"b"},[{"linkId":"c"}]]}`,
	`{"productName":"x","productReportId":7,"requestId":null,"links":7}`, `{"productName":"x","productReportId":" "}`, `{"productName":"x","productReportId":"é"}`,
	`{"productName":"x","productReportId":"\ud83d\ude00"}`, `{"productName":"x","productReportId":"\ud800"}`, `{"productName":"x","productReportId":"a\/b\u0041"}`,
	`{"productName":"\ud800"}`, "{\"productName\":\"a\xff\"}", `{"productName":"a b"}`, `{"productName":"a\u0000"}`, `{"productName":["a"]}`, `{"productName":null}`, `{"productName":""}`,

	// numbers
	`{"productName":"x","code":"204"}`, `{"productName":"x","code":200.0}`, `{"productName":"x","code":2e2}`, `{"productName":"x","code":-0}`,
	`{"productName":"x","code":2147483648}`, `{"productName":"x","code":9007199254740993}`, `{"productName":"x","code":1e400}`, `{"productName":"x","code":" 1"}`,
	`{"productName":"x","code":"+1"}`, `{"productName":"x","code":"2147483648"}`, `{"productName":"x","code":"-2147483649"}`,
	`{"productName":"x","code":true}`, `{"productName":"x","code":01}`, `{"productName":"x","n":[1e400,-0,0.1E+9,18446744073709551616]}`,
}

func deepBodies() []string {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	return []string{
		`{"productName":"x","a":` + deep(9999) + `}`, `{"productName":"x","a":` + deep(10000) + `}`, deep(10001),
		`{"` + strings.Repeat("a", maxQuoted) + `":1,"productName":"` + strings.Repeat("x", maxKeptText) + `"}`,
		`{"productName":"x","requestId":"` + strings.Repeat(`\u0061`, maxKeptText) + `"}`,
		`{"productName":"x","requestId":"` + strings.Repeat("r", maxKeptText+1) + `"}`,
		`{"productName":"` + strings.Repeat("x", maxKeptText+1) + `"}`,
	}
}

func TestEnvelopeIsWhatOthersRead(t *testing.T) {
	taken := 0
	for _, body := range append(deepBodies(), webhookBodies...) {
		env, err := ReadEnvelope(strings.NewReader(body))
		if err == nil {
			taken++
		}
		checkEnvelope(t, []byte(body), env, err)
	}
	if taken < 30 {
		t.Errorf("got %d bodies taken, want some: nothing was compared", taken)
	}
}

// The memory of a reader of JSON may run out before its patience does.
func TestEnvelopeDepthIsThatOfOthers(t *testing.T) {
	for depth := 9990; depth <= 10010; depth++ {
		body := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		_, err := ReadEnvelope(strings.NewReader(`{"productName":"x","a":` + body + `}`))
		if valid := json.Valid([]byte(`{"a":` + body + `}`)); valid != (err == nil) {
			t.Errorf("at depth %d: got %v, but encoding/json takes it: %t", depth, err, valid)
		}
	}
}

// FuzzReadEnvelope looks for a body of which encoding/json, or the same reader over
// a slower connection, reads something else.
func FuzzReadEnvelope(f *testing.F) {
	for _, body := range webhookBodies {
		f.Add([]byte(body))
	}
	f.Add(statement(20 << 10))
	f.Fuzz(func(t *testing.T, body []byte) {
		inPlace := bytes.Clone(body)
		env, err := ReadEnvelope(bytes.NewBuffer(inPlace))
		if !bytes.Equal(inPlace, body) {
			t.Fatalf("%q became %q while it was read", body, inPlace)
		}
		for _, r := range []io.Reader{onlyReader{bytes.NewReader(body)}, iotest.OneByteReader(bytes.NewReader(body))} {
			again, againErr := ReadEnvelope(r)
			if (err == nil) != (againErr == nil) || err != nil && err.Error() != againErr.Error() || !reflect.DeepEqual(env, again) {
				t.Fatalf("from memory: %+v, %v; as a stream: %+v, %v", env, err, again, againErr)
			}
		}
		checkEnvelope(t, body, env, err)
	})
}

// checkEnvelope compares an envelope with what encoding/json makes of the body,
// where of two equal names the last one counts, and so it does in any case.
func checkEnvelope(t *testing.T, body []byte, env Envelope, err error) {
	t.Helper()
	if err != nil {
		unreadable, ok := errors.AsType[*EnvelopeError](err)
		if !ok {
			t.Fatalf("%.200q: got the error %v, want an *EnvelopeError", body, err)
		}
		if strings.HasPrefix(unreadable.Reason, "not valid JSON") && json.Valid(body) {
			t.Errorf("%.200q: got %v, but encoding/json takes it", body, err)
		}
		return
	}
	if !json.Valid(body) {
		t.Fatalf("%.200q was taken, but not by encoding/json", body)
	}
	if (env.Report == nil) == (len(env.Events) == 0) {
		t.Fatalf("%.200q: got %+v, want a report or events", body, env)
	}
	if env.Report != nil {
		checkReport(t, body, env.Report)
		return
	}
	var events []json.RawMessage
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		events = []json.RawMessage{body}
	} else if err := json.Unmarshal(body, &events); err != nil {
		t.Fatal(err)
	}
	if len(env.Events) != min(len(events), maxEvents) {
		t.Fatalf("%.200q: got %d events, want %d", body, len(env.Events), len(events))
	}
	for i, event := range env.Events {
		checkEvent(t, events[i], event)
	}
}

func checkReport(t *testing.T, body []byte, got *Report) {
	t.Helper()
	var folded struct {
		ProductName     any `json:"productName"`
		ProductReportID any `json:"productReportId"`
		Code            any `json:"code"`
		RequestID       any `json:"requestId"`
		Links           any `json:"links"`
	}
	top := decode(t, body, &folded)
	if folded.ProductName != any(got.Type) || top["productName"] != any(got.Type) {
		t.Errorf("%.200q: got type %q, others read %v, or %v if case does not matter", body, got.Type, top["productName"], folded.ProductName)
	}
	checkID(t, body, "productReportId", got.ID, top["productReportId"], folded.ProductReportID)
	checkID(t, body, "requestId", got.RequestID, top["requestId"], folded.RequestID)
	if code := codeOf(top["code"]); got.Code != code {
		t.Errorf("%.200q: got code %d, want %d", body, got.Code, code)
	}
	if top["links"] != nil && !reflect.DeepEqual(top["links"], folded.Links) {
		t.Errorf("%.200q: got links %v, or %v if case does not matter", body, top["links"], folded.Links)
	}
	var linkIDs, consentIDs []any
	for _, link := range objects(top["links"]) {
		linkIDs = append(linkIDs, link["linkId"])
		consentIDs = append(consentIDs, consentsOf(link)...)
	}
	checkIDs(t, body, "linkId", got.LinkIDs, linkIDs)
	checkIDs(t, body, "consentId", got.ConsentIDs, consentIDs)
}

func checkEvent(t *testing.T, body []byte, got Event) {
	t.Helper()
	var folded struct {
		EventName any `json:"eventName"`
		EventID   any `json:"eventId"`
		Payload   any `json:"payload"`
	}
	top := decode(t, body, &folded)
	if folded.EventName != any(got.Name) || top["eventName"] != any(got.Name) {
		t.Errorf("%.200q: got event %q, others read %v, or %v if case does not matter", body, got.Name, top["eventName"], folded.EventName)
	}
	// Klavi itself spells this one in two ways.
	checkID(t, body, "eventId", got.ID, folded.EventID, folded.EventID)
	payload, _ := top["payload"].(map[string]any)
	if payload != nil && !reflect.DeepEqual(top["payload"], folded.Payload) {
		t.Errorf("%.200q: got payload %v, or %v if case does not matter", body, top["payload"], folded.Payload)
	}
	checkID(t, body, "linkId", got.LinkID, payload["linkId"], payload["linkId"])
	checkIDs(t, body, "consentId", got.ConsentIDs, consentsOf(payload))
}

// decode reads an object exactly, and into folded in any case.
func decode(t *testing.T, body []byte, folded any) (exact map[string]any) {
	t.Helper()
	for _, to := range []any{&exact, folded} {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if err := decoder.Decode(to); err != nil {
			t.Fatalf("%.200q was taken, but encoding/json says: %v", body, err)
		}
	}
	return exact
}

// checkID compares an id with what others read: nothing else, and nothing only if
// that cannot stand in a header.
func checkID(t *testing.T, body []byte, name, got string, exact, folded any) {
	t.Helper()
	text, _ := exact.(string)
	if !isPrintable(text) || len(text) > maxKeptText {
		text = ""
	}
	if got != text {
		t.Errorf("%.200q: got %s %q, want %q", body, name, got, text)
	}
	if got != "" && folded != any(got) {
		t.Errorf("%.200q: got %s %q, others read %v if case does not matter", body, name, got, folded)
	}
}

// checkIDs looks for all that others read. There may be more: the first of two
// equal names counts too.
func checkIDs(t *testing.T, body []byte, name string, got []string, want []any) {
	t.Helper()
	if len(got) == maxKeptIDs {
		return
	}
	for _, value := range want {
		if id, ok := value.(string); ok && isPrintable(id) && len(id) <= maxKeptText && !slices.Contains(got, id) {
			t.Errorf("%.200q: got the %ss %q, want %q too", body, name, got, id)
		}
	}
	for i, id := range got {
		if !isPrintable(id) || len(id) > maxKeptText || slices.Contains(got[:i], id) {
			t.Errorf("%.200q: got the %ss %q, want each once, and fit for a header", body, name, got)
		}
	}
}

func consentsOf(object map[string]any) []any {
	ids := []any{object["consentId"]}
	for _, consent := range objects(object["consents"]) {
		ids = append(ids, consent["consentId"])
	}
	return ids
}

// objects returns the object that stands alone, or those in an array.
func objects(value any) []map[string]any {
	switch value := value.(type) {
	case map[string]any:
		return []map[string]any{value}
	case []any:
		var all []map[string]any
		for _, element := range value {
			if object, ok := element.(map[string]any); ok {
				all = append(all, object)
			}
		}
		return all
	}
	return nil
}

func codeOf(value any) int {
	text, _ := value.(string)
	if number, ok := value.(json.Number); ok {
		text = number.String()
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

// Of two names that differ in case alone, it depends on the reader which counts.
func TestNamesInTwoCases(t *testing.T) {
	for _, name := range []string{"productName", "productReportId", "code", "requestId", "links", "eventId", "payload", "eventName"} {
		exact, upper := strconv.Quote(name)+`:"1"`, strconv.Quote(strings.ToUpper(name))+`:"2"`
		for _, body := range []string{
			`{"productName":"x",` + exact + `,` + upper + `}`, `{` + upper + `,` + exact + `,"productName":"x"}`,
			`[{"eventName":"x",` + upper + `,` + exact + `}]`,
		} {
			env, err := ReadEnvelope(strings.NewReader(body))
			if _, ok := errors.AsType[*EnvelopeError](err); !ok {
				t.Errorf("%s: got %+v, %v, want an *EnvelopeError", body, env, err)
			}
		}
	}
	env, err := ReadEnvelope(strings.NewReader(`{"productName":"x","data":{"CODE":1,"code":2},"Message":"m","message":"n","CODE":3}`))
	if err != nil || env.Report == nil || env.Report.Type != "x" || env.Report.Code != 0 {
		t.Errorf("got %+v, %v, want a report: these names are not the header's, or stand there once", env, err)
	}
}
