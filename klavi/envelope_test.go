package klavi

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// readers are the ways in which a body can arrive; what it says must not depend on them.
var readers = map[string]func(body string) io.Reader{
	"memory":       func(body string) io.Reader { return bytes.NewBufferString(body) },
	"stream":       func(body string) io.Reader { return onlyReader{strings.NewReader(body)} },
	"in pieces":    inPieces,
	"error at end": func(body string) io.Reader { return iotest.DataErrReader(strings.NewReader(body)) },
}

// inPieces gives one byte at a time, or what is large (for which that would take long) in halves of what is asked for.
func inPieces(body string) io.Reader {
	if len(body) > 64<<10 {
		return iotest.HalfReader(strings.NewReader(body))
	}
	return iotest.OneByteReader(strings.NewReader(body))
}

func TestReadEnvelopeOfReports(t *testing.T) {
	large := `"data":[` + strings.Repeat(`{"amount":"1.00","list":[1,2,3]},`, 20000) + `1e400]`
	tests := []struct {
		name, body string
		want       Report
	}{
		{
			"sample of the documents",
			`{"code":200,"message":"OK","requestId":"112334","productName":"pf_credit_risk","productVersion":"V1.1",` +
				`"productReportId":"4b2c1648-231f-11eb-97c4-f45c899f4587","productReportTime":"2019-12-23T06:10:43","enquiryCpf":"x",` +
				`"links":[{"linkId":"gPuKXrCJU05J4k","institutionCode":"033","consents":[{"consentId":"f55c899f-11eb-231f-97c4-4b2c16484587",` +
				`"permissions":{"REGISTRATION_ALL":{"permissionsGranted":true,"accountIds":["123456"]}}}]}],` +
				`"creditRisk":{"labelDetails":[{"labelCode":"F000007","labelValue":210}]},"externalInfo":{"productName":"not this one"}}`,
			Report{
				Type: "pf_credit_risk", ID: "4b2c1648-231f-11eb-97c4-f45c899f4587", Code: 200, RequestID: "112334",
				LinkIDs: []string{"gPuKXrCJU05J4k"}, ConsentIDs: []string{"f55c899f-11eb-231f-97c4-4b2c16484587"},
			},
		},
		{"least", `{"productName":"x"}`, Report{Type: "x"}},
		{"spaces", " \r\n\t{ \"productName\" : \"x\" } \n", Report{Type: "x"}},
		{
			"several links and consents, each id once",
			`{"productName":"x","links":[{"linkId":"a","consents":[{"consentId":"1"},{"consentId":"2"}]},{"linkId":"b","consents":[{"consentId":"2"},{"consentId":"3"}]},{"linkId":"a"}]}`,
			Report{Type: "x", LinkIDs: []string{"a", "b"}, ConsentIDs: []string{"1", "2", "3"}},
		},
		{
			"one link and one consent without arrays", `{"productName":"x","links":{"linkId":"a","consents":{"consentId":"1"}}}`,
			Report{Type: "x", LinkIDs: []string{"a"}, ConsentIDs: []string{"1"}},
		},
		{"links of other kinds", `{"productName":"x","links":[1,"a",null,[{"linkId":"a"}],{"linkId":7,"consents":"b"}]}`, Report{Type: "x"}},
		{"links that are a text", `{"links":"a","productName":"x"}`, Report{Type: "x"}},
		{"header after a lot of data", `{` + large + `,"productName":"x","productReportId":"1"}`, Report{Type: "x", ID: "1"}},
		{"header before and after", `{"productName":"x",` + large + `,"links":[{"linkId":"a"}]}`, Report{Type: "x", LinkIDs: []string{"a"}}},
		{"escaped name", `{"product\u004eame":"\u0078"}`, Report{Type: "x"}},
		{"names of the header in the data", `{"productName":"x","a":{"productName":"y","productName":"z"},"b":[{"links":1,"links":2}]}`, Report{Type: "x"}},
		{"other names twice", `{"productName":"x","a":1,"a":2,"a":3}`, Report{Type: "x"}},
		{"not UTF-8", "{\"productName\":\"x\",\"\xff\":\"\xfe\",\"productReportId\":\"\xff\"}", Report{Type: "x"}},
		{"half of a surrogate pair", `{"productName":"x","a":"\ud800","productReportId":"\ud800"}`, Report{Type: "x"}},
		{"huge numbers", `{"productName":"x","a":1e400,"b":` + strings.Repeat("9", 5000) + `,"code":1e400}`, Report{Type: "x"}},
		{"ids of other kinds", `{"productName":"x","productReportId":7,"requestId":{"a":1},"code":[200]}`, Report{Type: "x"}},
		{"code in a text", `{"productName":"x","code":"204"}`, Report{Type: "x", Code: 204}},
		{"code with a fraction", `{"productName":"x","code":204.5}`, Report{Type: "x"}},
		{"code too large", `{"productName":"x","code":9999999999}`, Report{Type: "x"}},
		{"code that is no number", `{"productName":"x","code":"a"}`, Report{Type: "x"}},
		{"ids that no header can hold", `{"productName":"x","productReportId":"a b","requestId":"a\r\nX: y","links":[{"linkId":"é"},{"linkId":""}]}`, Report{Type: "x"}},
		{"id of 256 bytes", `{"productName":"x","requestId":"` + strings.Repeat("a", 256) + `"}`, Report{Type: "x", RequestID: strings.Repeat("a", 256)}},
		{"escaped id of 256 bytes", `{"productName":"x","requestId":"` + strings.Repeat(`\u0061`, 256) + `"}`, Report{Type: "x", RequestID: strings.Repeat("a", 256)}},
		{"id of 257 bytes", `{"productName":"x","requestId":"` + strings.Repeat("a", 257) + `"}`, Report{Type: "x"}},
		{"name of many bytes", `{"` + strings.Repeat("a", 100000) + `":1,"productName":"x"}`, Report{Type: "x"}},
		{"text of many bytes", `{"a":"` + strings.Repeat("a", 3<<20) + `","productName":"x"}`, Report{Type: "x"}},
		{"report with the name of an event", `{"eventName":"y","productName":"x"}`, Report{Type: "x"}},
		{"deep", `{"a":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `,"productName":"x"}`, Report{Type: "x"}},
		{
			"deep and large", `{"a":` + strings.Repeat(`{"b":[1,`, 4000) + `"` + strings.Repeat("x", 50000) + `"` + strings.Repeat(`]}`, 4000) + `,"productName":"x"}`,
			Report{Type: "x"},
		},
	}
	for _, test := range tests {
		for how, reader := range readers {
			env, err := ReadEnvelope(reader(test.body))
			if err != nil {
				t.Errorf("%s, %s: %v", test.name, how, err)
				continue
			}
			if env.Report == nil || env.Events != nil || !reflect.DeepEqual(*env.Report, test.want) {
				t.Errorf("%s, %s: got %+v and %+v, want %+v", test.name, how, env.Report, env.Events, test.want)
			}
		}
	}
}

func TestReadEnvelopeOfEvents(t *testing.T) {
	tests := []struct {
		name, body string
		want       []Event
	}{
		{
			"sample of the documents",
			`[{"partnerAppId":"12345678","eventId":"1495468585434-0e73d1719173766fe4dfe1a8","eventType":"api","eventName":"link_created",` +
				`"eventTime":"2022-06-25T20:08:17.848Z","payload":{"personalTaxId":"25872252137","businessTaxId":"","linkId":"ed812-81fcec"},"externalInfo":{"myTraceId":"1"}}]`,
			[]Event{{Name: "link_created", ID: "1495468585434-0e73d1719173766fe4dfe1a8", LinkID: "ed812-81fcec"}},
		},
		{
			"alone, its id in other letters, one consent",
			`{"eventID":"1","eventName":"consent_authorised","payload":{"linkId":"a","consents":{"consentId":"c","externalTrackId":"t"}}}`,
			[]Event{{Name: "consent_authorised", ID: "1", LinkID: "a", ConsentIDs: []string{"c"}}},
		},
		{
			"several events and consents",
			`[{"payload":{"consents":[{"consentId":"c"},{"consentId":"d"},{"consentId":"c"}]},"eventName":"x"},{"eventName":"y","payload":{"consentId":"e","linkId":"b"}},{"eventName":"z","payload":7}]`,
			[]Event{{Name: "x", ConsentIDs: []string{"c", "d"}}, {Name: "y", LinkID: "b", ConsentIDs: []string{"e"}}, {Name: "z"}},
		},
		{"ids outside of the payload are none", `{"eventName":"x","linkId":"a","consentId":"c"}`, []Event{{Name: "x"}}},
	}
	for _, test := range tests {
		for how, reader := range readers {
			env, err := ReadEnvelope(reader(test.body))
			if err != nil {
				t.Errorf("%s, %s: %v", test.name, how, err)
				continue
			}
			if env.Report != nil || !reflect.DeepEqual(env.Events, test.want) {
				t.Errorf("%s, %s: got %+v and %+v, want %+v", test.name, how, env.Report, env.Events, test.want)
			}
		}
	}
}

func TestReadEnvelopeRefuses(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"nothing", ``, "ends before"},
		{"spaces", `  `, "ends before"},
		{"null", `null`, "neither an object"},
		{"text", `"secret"`, "neither an object"},
		{"byte order mark", "\ufeff" + `{"productName":"secret"}`, "not valid JSON at byte 0"},
		{"no JSON", `productName=secret`, "not valid JSON at byte 0"},
		{"empty object", `{}`, "neither a productName"},
		{"other object", `{"secret":1}`, "neither a productName"},
		{"other letters", `{"ProductName":"secret"}`, "neither a productName"},
		{"only in the data", `{"data":{"productName":"secret"}}`, "neither a productName"},
		{"name is null", `{"productName":null}`, "productName is not a string"},
		{"name is a number", `{"productName":7}`, "productName is not a string"},
		{"name is an object", `{"productName":{"secret":1}}`, "productName is not a string"},
		{"name is empty", `{"productName":""}`, "productName is not a string"},
		{"name is long", `{"productName":"` + strings.Repeat("secret", 50) + `"}`, "productName is not a string"},
		{"name is very long", `{"productName":"` + strings.Repeat("secret", 5000) + `"}`, "productName is not a string"},
		{"name has a line break", `{"productName":"a\r\nsecret"}`, "productName is not a string"},
		{"name has a space", `{"productName":"a secret"}`, "productName is not a string"},
		{"name is not UTF-8", "{\"productName\":\"secret\xff\"}", "productName is not a string"},
		{"name twice", `{"productName":"a","productName":"secret"}`, "twice"},
		{"name twice, escaped", `{"productName":"a","product\u004eame":"secret"}`, "twice"},
		{"id twice", `{"productName":"a","productReportId":"a","productReportId":"secret"}`, "twice"},
		{"code twice", `{"productName":"a","code":1,"data":{},"code":2}`, "twice"},
		{"links twice", `{"productName":"a","links":[],"links":[]}`, "twice"},
		{"event's id twice", `{"eventName":"a","eventId":"1","eventID":"2"}`, "twice"},
		{"event's name is a number", `{"eventName":7}`, "eventName is not a string"},
		{"event's name is empty", `[{"eventName":"a"},{"eventName":""}]`, "eventName is not a string"},
		{"event without a name", `[{"eventName":"a"},{"secret":1}]`, "without an eventName"},
		{"report in an array", `[{"productName":"secret"}]`, "without an eventName"},
		{"event that is a text", `[{"eventName":"a"},"secret"]`, "not an object"},
		{"no events", `[]`, "without events"},
		{"two documents", `{"productName":"a"}{"productName":"secret"}`, "follows"},
		{"a bracket too many", `{"productName":"a"}}`, "not valid JSON at byte 19"},
		{"trailing text", `{"productName":"a"} secret`, "not valid JSON at byte 20"},
		{"cut off in a name", `{"productName":"a","secr`, "ends before"},
		{"cut off in the data", `{"productName":"a","data":[{"secret":1},{"se`, "ends before"},
		{"cut off at the end", `{"productName":"a"`, "ends before"},
		{"no value", `{"productName":}`, "not valid JSON at byte"},
		{"no value for links", `{"productName":"a","links":}`, "not valid JSON at byte"},
		{"no colon", `{"productName" "secret"}`, "not valid JSON at byte"},
		{"comma at the end", `{"productName":"a",}`, "not valid JSON at byte"},
		{"name that is no text", `{"productName":"a",7:"secret"}`, "not valid JSON at byte"},
		{"wrong bracket", `{"productName":"a","data":[{"secret":1]}}`, "not valid JSON at byte"},
		{"wrong bracket in links", `{"productName":"a","links":[{"linkId":"a"]}}`, "not valid JSON at byte"},
		{"bad data", `{"productName":"a","data":[tru]}`, "not valid JSON at byte"},
		{"bad number", `{"productName":"a","data":01}`, "not valid JSON at byte"},
		{"control character", "{\"productName\":\"a\",\"data\":\"\x01\"}", "not valid JSON at byte"},
		{"too deep", `{"productName":"a","data":` + strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000) + `}`, "not valid JSON"},
	}
	for _, test := range tests {
		for how, reader := range readers {
			env, err := ReadEnvelope(reader(test.body))
			unreadable, ok := errors.AsType[*EnvelopeError](err)
			if !ok || !strings.Contains(unreadable.Reason, test.want) {
				t.Errorf("%s, %s: got %+v, %v, want an error with %q", test.name, how, env, err, test.want)
				continue
			}
			if env.Report != nil || env.Events != nil {
				t.Errorf("%s, %s: got %+v beside the error", test.name, how, env)
			}
			if strings.Contains(err.Error(), "secret") || len(err.Error()) > 120 {
				t.Errorf("%s, %s: the error repeats the body: %v", test.name, how, err)
			}
		}
	}
}

func TestReadEnvelopeKeepsLittle(t *testing.T) {
	var links, events strings.Builder
	for i := range 2000 {
		sep := ","
		if i == 0 {
			sep = ""
		}
		id := strings.Repeat("a", i%50+1) + string(rune('b'+i/50%20)) + string(rune('b'+i/1000))
		links.WriteString(sep + `{"linkId":"` + id + `","consents":[{"consentId":"` + id + `"}]}`)
		events.WriteString(sep + `{"eventName":"x"}`)
	}
	env, err := ReadEnvelope(strings.NewReader(`{"productName":"x","links":[` + links.String() + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if l, c := len(env.Report.LinkIDs), len(env.Report.ConsentIDs); l != maxKeptIDs || c != maxKeptIDs {
		t.Errorf("got %d links and %d consents, want %d of each", l, c, maxKeptIDs)
	}
	env, err = ReadEnvelope(strings.NewReader(`[` + events.String() + `]`))
	if err != nil || len(env.Events) != maxEvents {
		t.Errorf("got %d events, %v, want %d", len(env.Events), err, maxEvents)
	}
}

func TestReadEnvelopeTellsReadErrors(t *testing.T) {
	for _, n := range []int{0, 1, 20, 5000, 100000} {
		body := statement(200 << 10)
		r := io.MultiReader(bytes.NewReader(body[:n]), iotest.ErrReader(os.ErrDeadlineExceeded))
		_, err := ReadEnvelope(r)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %d bytes: got %v, want %v", n, err, os.ErrDeadlineExceeded)
		}
		if _, ok := errors.AsType[*EnvelopeError](err); ok {
			t.Errorf("after %d bytes: the body is blamed: %v", n, err)
		}
	}
	// What failed before leaves nothing behind.
	env, err := ReadEnvelope(onlyReader{bytes.NewReader(statement(200 << 10))})
	if err != nil || env.Report.Type != "pf_categorized_checking_l3" {
		t.Errorf("a good body afterwards: got %+v, %v", env, err)
	}
}

func TestReadEnvelopeLeavesTheBodyAlone(t *testing.T) {
	body := statement(100 << 10)
	before := bytes.Clone(body)
	for range 2 {
		if _, err := ReadEnvelope(bytes.NewBuffer(body)); err != nil {
			t.Fatal(err)
		}
		// The decoder that comes next must not write where this one read.
		if _, err := ReadEnvelope(onlyReader{bytes.NewReader(statement(1 << 20))}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(body, before) {
		t.Error("the bytes of the body were changed")
	}
}

func TestReadEnvelopeOfHugeString(t *testing.T) {
	body := func(size int) io.Reader {
		return io.MultiReader(strings.NewReader(`{"productName":"x","a":"`), io.LimitReader(letters{}, int64(size)), strings.NewReader(`"}`))
	}
	if _, err := ReadEnvelope(body(maxToken - 1<<10)); err != nil {
		t.Errorf("a string of nearly 8 MiB: %v", err)
	}
	_, err := ReadEnvelope(body(maxToken + 1<<10))
	if unreadable, ok := errors.AsType[*EnvelopeError](err); !ok || !strings.Contains(unreadable.Reason, "8 MiB") {
		t.Errorf("a string above 8 MiB: got %v, want an error that says so", err)
	}
}

// letters never ends.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// repeated is one text again and again, a total of n times.
type repeated struct {
	text string
	n    int
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.text[r.at:])
	if r.at += n; r.at == len(r.text) {
		r.at, r.n = 0, r.n-1
	}
	return n, nil
}

// A large body that is one member, in shapes that would tempt the decoder to hold it whole, must not be held.
func TestReadEnvelopeMemory(t *testing.T) {
	const size = 6 << 20
	for name, shape := range map[string]struct{ head, item, tail string }{
		"array of objects":        {`{"productName":"x","data":[`, `{"amount":"1.00","list":[1,2,3],"name":"abc"},`, `0]}`},
		"array of large objects":  {`{"productName":"x","data":[`, `{"list":[` + strings.Repeat(`{"a":"1.00"},`, 5000) + `0]},`, `0]}`},
		"members of one object":   {`{"productName":"x","data":{`, `"a":"1.00",`, `"b":0}}`},
		"members of the report":   {`{`, `"a":"1.00",`, `"productName":"x"}`},
		"array far down":          {`{"productName":"x","data":` + strings.Repeat(`[`, 100), `{"a":1},`, `0` + strings.Repeat(`]`, 100) + `}`},
		"array in the payload":    {`{"eventName":"x","payload":[`, `{"a":1},`, `0]}`},
		"array of links":          {`{"productName":"x","links":[`, `{"linkId":"a","consents":[{"consentId":"c"}]},`, `0]}`},
		"array of events":         {`[`, `{"eventName":"x"},`, `{"eventName":"x"}]`},
		"permissions of one link": {`{"productName":"x","links":[{"linkId":"a","consents":[{"permissions":[`, `"ACCOUNTS_ALL",`, `0]}]}]}`},
	} {
		body := io.MultiReader(strings.NewReader(shape.head), &repeated{text: shape.item, n: size / len(shape.item)}, strings.NewReader(shape.tail))
		held := &heldMeter{r: body}
		if _, err := ReadEnvelope(held); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t.Logf("%s: %d KiB on the heap", name, held.most>>10)
		if limit := uint64(1 << 20); held.most > limit {
			t.Errorf("%s: got %d KiB on the heap for a body of %d KiB, want at most %d KiB", name, held.most>>10, held.total>>10, limit>>10)
		}
	}
}

// heldMeter measures, while it is read from, how much more the heap holds than at first.
type heldMeter struct {
	r                  io.Reader
	total, last        int64
	first, most, reads uint64
}

func (m *heldMeter) Read(p []byte) (int, error) {
	if m.reads == 0 || m.total-m.last > 1<<20 {
		m.last = m.total
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		if m.reads == 0 {
			m.first = stats.HeapAlloc
		}
		if stats.HeapAlloc > m.first {
			m.most = max(m.most, stats.HeapAlloc-m.first)
		}
	}
	m.reads++
	n, err := m.r.Read(p)
	m.total += int64(n)
	return n, err
}
